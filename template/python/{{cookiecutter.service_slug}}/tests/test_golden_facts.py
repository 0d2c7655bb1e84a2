"""What was ever released can still be read: its facts stay in the log."""

from pathlib import Path

import pytest
from factfold_chassis import Service
from factfold_chassis.testing import GoldenFact, golden_facts

NONE = pytest.param(None, marks=pytest.mark.skip(reason="no version of the contract is released"))


@pytest.mark.parametrize("fact", golden_facts(Path(__file__).parents[1]) or [NONE], ids=str)
def test_a_released_fact_is_read_as_it_was_written(app: Service, fact: GoldenFact) -> None:
    assert fact.differences(app) == []

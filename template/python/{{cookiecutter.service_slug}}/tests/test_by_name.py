from itertools import permutations

import pytest
from factfold_chassis import Service
from factfold_chassis.testing import Folded, Running, fold_facts

from service import contract
from service.views import (
    {{cookiecutter.__plural_snake}},
    {{cookiecutter.__plural_snake}}_by_name,
)


def created(id: str, name: str) -> contract.{{cookiecutter.aggregate}}Created:
    return contract.{{cookiecutter.aggregate}}Created(id=id, name=name)


def renamed(id: str, name: str) -> contract.{{cookiecutter.aggregate}}Renamed:
    return contract.{{cookiecutter.aggregate}}Renamed(id=id, name=name)


def counts(folded: Folded) -> dict[str, int]:
    rows = folded.rows({{cookiecutter.__plural_snake}}_by_name.TABLE)
    return {name: row.value for name, row in rows.items()}


def test_each_name_is_counted(app: Service) -> None:
    folded = fold_facts(app, created("1", "one"), created("2", "one"), created("3", "two"))
    assert counts(folded) == {"one": 2, "two": 1}


def test_a_name_that_is_given_up_is_gone(app: Service) -> None:
    folded = fold_facts(app, created("1", "one"), renamed("1", "two"))
    assert counts(folded) == {"two": 1}


def test_what_has_no_row_any_more_does_not_count(app: Service) -> None:
    folded = fold_facts(app, created("1", "one"), created("2", "one"))
    # As a fold does that returns None.
    folded.rows({{cookiecutter.__plural_snake}}.TABLE).put("1", None)
    assert counts(folded) == {"one": 1}


@pytest.mark.parametrize("order", sorted(set(permutations("1122"))))
def test_it_does_not_matter_whose_facts_come_first(app: Service, order: tuple[str, ...]) -> None:
    facts = {
        "1": [created("1", "one"), renamed("1", "two")],
        "2": [created("2", "two"), renamed("2", "one")],
    }
    folded = fold_facts(app, *(facts[id].pop(0) for id in order))
    assert counts(folded) == {"one": 1, "two": 1}


async def test_the_running_service_keeps_it(running: Running) -> None:
    await running.publish(created("1", "one"), expected_version=0)
    await running.publish(created("2", "two"), expected_version=0)
    await running.publish(renamed("2", "one"), expected_version=1)
    rows = running.rows({{cookiecutter.__plural_snake}}_by_name.TABLE)
    assert {name: row.value for name, row in rows.items()} == {"one": 2}

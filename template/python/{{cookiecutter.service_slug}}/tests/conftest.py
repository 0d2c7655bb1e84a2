"""The testing kit runs the service in this process, against a real Redis of its own."""

import pytest
from factfold_chassis import Service

from service.app import build

pytest_plugins = ["factfold_chassis.testing.plugin"]


@pytest.fixture
def app() -> Service:
    return build()

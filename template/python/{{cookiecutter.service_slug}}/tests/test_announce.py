import pytest
from factfold_chassis.testing import Running

from service import contract


async def test_a_new_one_is_announced(
    running: Running,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", logger="service.reactions")
    await running.publish(
        contract.{{cookiecutter.aggregate}}Created(id="1"),
        expected_version=0,
    )
    await running.eventually(lambda: "announced 1" in caplog.messages)

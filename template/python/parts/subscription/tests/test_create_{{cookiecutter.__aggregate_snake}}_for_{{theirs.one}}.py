import uuid

from factfold_chassis.testing import Running

import service.subscriptions.{{theirs.ident}} as theirs
from service import contract
from service.views import {{cookiecutter.__plural_snake}}


async def test_a_fact_is_answered_once(running: Running) -> None:
    await running.publish(
        theirs.{{theirs.aggregate}}Created(
            id="1",
            name="one",
        ),
        expected_version=0,
    )
    rows = running.rows({{cookiecutter.__plural_snake}}.TABLE)
    await running.eventually(lambda: len(rows) == 1)
    [(_, event)] = await running.facts(contract.SERVICE)
    assert event == contract.{{cookiecutter.aggregate}}Created(
        id="1",
        name="one",
    )


async def test_an_answer_is_not_answered(running: Running) -> None:
    await running.publish(
        theirs.{{theirs.aggregate}}Created(id="1"),
        expected_version=0,
        cause=uuid.uuid4(),
    )
    await running.publish(
        theirs.{{theirs.aggregate}}Created(
            id="1",
            name="two",
        ),
        expected_version=1,
    )
    rows = running.rows({{cookiecutter.__plural_snake}}.TABLE)
    await running.eventually(lambda: len(rows) == 1)
    [(_, event)] = await running.facts(contract.SERVICE)
    assert event == contract.{{cookiecutter.aggregate}}Created(
        id="1",
        name="two",
    )

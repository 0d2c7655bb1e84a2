import asyncio
from collections.abc import AsyncIterator

import pytest
from factfold_chassis.contract import Contract
from factfold_chassis.testing import Running

from service import contract


def watch(
    running: Running,
    after: str = "",
) -> AsyncIterator[contract.Watch{{cookiecutter.__plural}}Response]:
    stub = contract.{{cookiecutter.aggregate}}ServiceStub(running.channel)
    request = contract.Watch{{cookiecutter.__plural}}Request(
        after=after,
    )
    return aiter(stub.Watch{{cookiecutter.__plural}}(request, timeout=10))


async def test_changes_arrive_from_the_first_fact_on(running: Running) -> None:
    created = contract.{{cookiecutter.aggregate}}Created(
        id="1",
        name="one",
    )
    renamed = contract.{{cookiecutter.aggregate}}Renamed(
        id="1",
        name="two",
    )
    await running.publish(created, expected_version=0)
    changes = watch(running)
    assert (await anext(changes)).created == created
    await running.publish(renamed, expected_version=1)
    assert (await anext(changes)).renamed == renamed


async def test_a_watch_resumes_behind_a_position(running: Running) -> None:
    await running.publish(
        contract.{{cookiecutter.aggregate}}Created(id="1"),
        expected_version=0,
    )
    first = await anext(watch(running))
    await running.publish(
        contract.{{cookiecutter.aggregate}}Created(id="2"),
        expected_version=0,
    )
    second = await anext(watch(running, first.position))
    assert (first.created.id, second.created.id) == ("1", "2")


async def test_every_event_of_the_contract_can_be_watched(running: Running) -> None:
    changes = watch(running)
    for version, event in enumerate(Contract([contract.DESCRIPTOR]).events.values()):
        sent = event.message(**{event.key_field: "1"})
        await running.publish(sent, expected_version=version)
        try:
            change = await asyncio.wait_for(anext(changes), 5)
        except TimeoutError:
            pytest.fail(
                f"src/service/handlers/watch_{{cookiecutter.__plural_snake}}.py has no case for {event.name}",
            )
        field = change.WhichOneof("change")
        assert field
        assert getattr(change, field) == sent

import grpc
import pytest
from factfold_chassis.testing import Running, violations

from service import contract


async def test_a_fact_is_appended(running: Running) -> None:
    stub = contract.{{cookiecutter.aggregate}}ServiceStub(running.channel)
    made = await stub.Create{{cookiecutter.aggregate}}(
        contract.Create{{cookiecutter.aggregate}}Request(name="one"),
    )
    [(fact, event)] = await running.facts(contract.SERVICE)
    assert (made.version, fact.version, fact.key) == (1, 1, made.id)
    assert event == contract.{{cookiecutter.aggregate}}Created(
        id=made.id,
        name="one",
    )


async def test_a_repeated_request_gets_the_first_answer(running: Running) -> None:
    stub = contract.{{cookiecutter.aggregate}}ServiceStub(running.channel)
    request = contract.Create{{cookiecutter.aggregate}}Request(
        request_id="8c6c3f5e-6f0e-4f7f-9d2a-0d1c5c1f7a11",
        name="one",
    )
    first = await stub.Create{{cookiecutter.aggregate}}(request)
    second = await stub.Create{{cookiecutter.aggregate}}(request)
    assert first == second
    assert len(await running.facts(contract.SERVICE)) == 1


async def test_a_name_is_required(running: Running) -> None:
    stub = contract.{{cookiecutter.aggregate}}ServiceStub(running.channel)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.Create{{cookiecutter.aggregate}}(
            contract.Create{{cookiecutter.aggregate}}Request(),
        )
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert list(violations(refused.value)) == ["name"]
    assert await running.facts(contract.SERVICE) == []

import grpc
import pytest
from factfold_chassis.testing import Running

from service import contract


async def test_a_row_is_returned(running: Running) -> None:
    stub = contract.{{cookiecutter.aggregate}}ServiceStub(running.channel)
    await running.publish(
        contract.{{cookiecutter.aggregate}}Created(
            id="1",
            name="one",
        ),
        expected_version=0,
    )
    got = await stub.Get{{cookiecutter.aggregate}}(
        contract.Get{{cookiecutter.aggregate}}Request(id="1"),
    )
    assert got.item == contract.{{cookiecutter.aggregate}}(
        id="1",
        name="one",
        version=1,
    )


async def test_a_caller_reads_its_own_write(running: Running) -> None:
    stub = contract.{{cookiecutter.aggregate}}ServiceStub(running.channel)
    create = stub.Create{{cookiecutter.aggregate}}(
        contract.Create{{cookiecutter.aggregate}}Request(name="one"),
    )
    made = await create
    position = dict(await create.trailing_metadata())["factfold-position"]
    got = await stub.Get{{cookiecutter.aggregate}}(
        contract.Get{{cookiecutter.aggregate}}Request(id=made.id),
        metadata=[("factfold-at-least", str(position))],
    )
    assert got.item.name == "one"


async def test_an_unknown_id_is_not_found(running: Running) -> None:
    stub = contract.{{cookiecutter.aggregate}}ServiceStub(running.channel)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.Get{{cookiecutter.aggregate}}(
            contract.Get{{cookiecutter.aggregate}}Request(id="1"),
        )
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND

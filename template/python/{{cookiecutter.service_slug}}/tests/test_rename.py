import grpc
import pytest
from factfold_chassis.testing import Running, violations

from service import contract


async def test_a_fact_is_appended(running: Running) -> None:
    stub = contract.{{cookiecutter.aggregate}}ServiceStub(running.channel)
    made = await running.publish(
        contract.{{cookiecutter.aggregate}}Created(
            id="1",
            name="one",
        ),
        expected_version=0,
    )
    done = await stub.Rename{{cookiecutter.aggregate}}(
        contract.Rename{{cookiecutter.aggregate}}Request(
            id="1",
            name="two",
            expected_version=made.version,
        ),
    )
    _, (fact, event) = await running.facts(contract.SERVICE)
    assert (done.id, done.version, fact.version) == ("1", 2, 2)
    assert event == contract.{{cookiecutter.aggregate}}Renamed(
        id="1",
        name="two",
    )


async def test_a_stale_version_is_refused(running: Running) -> None:
    stub = contract.{{cookiecutter.aggregate}}ServiceStub(running.channel)
    await running.publish(
        contract.{{cookiecutter.aggregate}}Created(id="1"),
        expected_version=0,
    )
    await running.publish(
        contract.{{cookiecutter.aggregate}}Renamed(id="1"),
        expected_version=1,
    )
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.Rename{{cookiecutter.aggregate}}(
            contract.Rename{{cookiecutter.aggregate}}Request(
                id="1",
                name="two",
                expected_version=1,
            ),
        )
    assert refused.value.code() is grpc.StatusCode.ABORTED


async def test_only_what_exists_is_renamed(running: Running) -> None:
    stub = contract.{{cookiecutter.aggregate}}ServiceStub(running.channel)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.Rename{{cookiecutter.aggregate}}(
            contract.Rename{{cookiecutter.aggregate}}Request(
                id="1",
                name="two",
                expected_version=1,
            ),
        )
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("field", "name", "expected_version"),
    [("name", "", 1), ("expected_version", "two", 0)],
)
async def test_fields_are_required(
    running: Running,
    field: str,
    name: str,
    expected_version: int,
) -> None:
    stub = contract.{{cookiecutter.aggregate}}ServiceStub(running.channel)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.Rename{{cookiecutter.aggregate}}(
            contract.Rename{{cookiecutter.aggregate}}Request(
                id="1",
                name=name,
                expected_version=expected_version,
            ),
        )
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert list(violations(refused.value)) == [field]

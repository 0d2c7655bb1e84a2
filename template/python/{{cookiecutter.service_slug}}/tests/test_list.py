import asyncio

import grpc
import pytest
from factfold_chassis.testing import Running, violations

from service import contract


async def publish(running: Running, count: int) -> list[str]:
    ids = [f"{number:04}" for number in range(count)]
    events = [contract.{{cookiecutter.aggregate}}Created(id=id) for id in ids]
    await asyncio.gather(*(running.publish(event, expected_version=0) for event in events))
    return ids


async def test_pages_hold_each_item_once(running: Running) -> None:
    stub = contract.{{cookiecutter.aggregate}}ServiceStub(running.channel)
    ids = await publish(running, 5)
    seen: list[str] = []
    token = ""
    for _ in range(3):
        page = await stub.List{{cookiecutter.__plural}}(
            contract.List{{cookiecutter.__plural}}Request(
                page_size=2,
                page_token=token,
            ),
        )
        seen += [item.id for item in page.items]
        token = page.next_page_token
    assert (sorted(seen), token) == (ids, "")
    assert page.position.count(f"{contract.SERVICE}/") > 0


@pytest.mark.parametrize(("asked", "got"), [(0, 50), (5000, 1000)])
async def test_a_page_has_a_usual_and_a_largest_size(
    running: Running,
    asked: int,
    got: int,
) -> None:
    stub = contract.{{cookiecutter.aggregate}}ServiceStub(running.channel)
    await publish(running, 1001)
    page = await stub.List{{cookiecutter.__plural}}(
        contract.List{{cookiecutter.__plural}}Request(page_size=asked),
    )
    assert (len(page.items), bool(page.next_page_token)) == (got, True)


@pytest.mark.parametrize(
    ("field", "page_size", "page_token"),
    [("page_size", -1, ""), ("page_token", 1, "no token!")],
)
async def test_wrong_fields_are_named(
    running: Running,
    field: str,
    page_size: int,
    page_token: str,
) -> None:
    stub = contract.{{cookiecutter.aggregate}}ServiceStub(running.channel)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.List{{cookiecutter.__plural}}(
            contract.List{{cookiecutter.__plural}}Request(
                page_size=page_size,
                page_token=page_token,
            ),
        )
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert list(violations(refused.value)) == [field]

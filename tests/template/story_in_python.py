"""What a team writes in Python while its service grows."""

from dataclasses import dataclass
from pathlib import Path

from .conftest import Generated, made
from .story import Story
from .test_checks import check

HANDLER = """\
from factfold_chassis import Command, NotFound, command

from service import contract
from service.views import orders


@command
async def cancel_order(
    request: contract.CancelOrderRequest,
    call: Command,
) -> contract.CancelOrderResponse:
    order = call.rows(orders.TABLE).get(request.id)
    if order is None:
        raise NotFound("Order", request.id)
    event = contract.OrderRenamed(
        id=request.id,
        name=f"{order.name} (cancelled)",
    )
    done = await call.append(event, expected_version=order.version)
    return contract.CancelOrderResponse(version=done.version)
"""
RENAMED = """\
    event = contract.OrderRenamed(
        id=request.id,
        name=f"{order.name} (cancelled)",
    )
"""
CANCELLED = """\
    event = contract.OrderCancelled(
        id=request.id,
        reason=request.reason,
    )
"""
HANDLER_TEST = """\
import grpc
import pytest
from factfold_chassis.testing import Running

from service import contract


async def test_it_is_done(running: Running) -> None:
    stub = contract.OrderServiceStub(running.channel)
    await running.publish(contract.OrderCreated(id="1"), expected_version=0)
    done = await stub.CancelOrder(contract.CancelOrderRequest(id="1", reason="rain"))
    assert done.version == 2


async def test_only_what_exists_is_cancelled(running: Running) -> None:
    stub = contract.OrderServiceStub(running.channel)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.CancelOrder(contract.CancelOrderRequest(id="1"))
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
"""
FOLD = """\
    if row is not None:
        row.version = fact.version
    return row
"""
WATCHED = """\
            case contract.OrderCancelled() as cancelled:
                yield contract.WatchOrdersResponse(
                    position=change.position,
                    cancelled=cancelled,
                )
"""

HANDLERS = "src/service/handlers"


@dataclass(frozen=True)
class InPython:
    folder: Path
    mypy_cache: Path

    def make(self, name: str) -> Path:
        return made(self.folder, self.mypy_cache, name).root

    def check(self, root: Path) -> None:
        service = Generated(root, self.mypy_cache)
        done = service.python("hatch_build.py")
        assert done.returncode == 0, done.stdout + done.stderr
        check(service)

    def cancel(self, story: Story) -> None:
        story.write(f"{HANDLERS}/cancel_order.py", HANDLER)
        story.write("tests/test_cancel_order.py", HANDLER_TEST)

    def fold(self, story: Story) -> None:
        _fill_in(story, "src/service/folds/order_cancelled.py", FOLD)
        story.replace(f"{HANDLERS}/cancel_order.py", RENAMED, CANCELLED)
        with (story.root / f"{HANDLERS}/watch_orders.py").open("a") as watch:
            watch.write(WATCHED)

    def refund(self, story: Story) -> None:
        _fill_in(story, "src/service/reactions/refund_order.py", "    return None\n")


def _fill_in(story: Story, path: str, body: str) -> None:
    story.fill_in(path, "    raise NotImplementedError(", "    )\n", body)

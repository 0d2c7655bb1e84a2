"""A service from its first day on: each step leaves the tree that was approved, and green tests.

`approved/story.txt` has the tree after the first step, and what each later one changes in it: path,
mode and zone, `+` new, `~` other content, `-` gone. FACTFOLD_APPROVE=1 writes it anew.
"""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .conftest import Generated, factfold, tried
from .test_checks import check

APPROVED = Path(__file__).parent / "approved/story.txt"
CONTRACT = "protos/acme/orders/v1/contract.proto"

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

# What an edit of the contract makes `factfold contract check` say.
BREAKS = [
    (
        "  int32 quantity = 3;",
        "  bool gift = 3;",
        "OrderCancelled: int32 quantity = 3 is now bool gift = 3 (released in version 1)",
    ),
    (
        "  string reason = 2;\n",
        "",
        "OrderCancelled: string reason = 2 is gone (released in version 1)",
    ),
    (
        "string id = 1 [(factfold.v1.key) = true];\n  string reason = 2;",
        "string id = 1;\n  string reason = 2 [(factfold.v1.key) = true];",
        "OrderCancelled: [(factfold.v1.key) = true] was at id = 1, is now at reason = 2",
    ),
    ("partitions: 4", "partitions: 8", "stream orders: partitions: 4 is now partitions: 8"),
]


@dataclass
class Story:
    """What has happened to a repository so far, as `approved/story.txt` tells it."""

    service: Generated
    told: list[str] = field(default_factory=list)
    tree: dict[str, tuple[str, str]] = field(default_factory=dict)

    def python(self, *arguments: str) -> str:
        done = self.service.python(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def factfold(self, *arguments: str) -> str:
        return factfold(self.service.root, *arguments)

    def step(self, what: str) -> None:
        """The tests are green, everything is committed, the tree is noted."""
        self.python("hatch_build.py")
        check(self.service)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", what)
        before, self.tree = self.tree, dict(self._listed())
        self.told += ["", f"# {what}", ""]
        for path in sorted({*before, *self.tree}):
            if before.get(path) != self.tree.get(path):
                mark = "-" if path not in self.tree else "~" if path in before else "+"
                shown, _ = self.tree.get(path) or before[path]
                self.told.append(f"{mark} {shown} {path}")

    def git(self, *arguments: str) -> str:
        command = ["git", "-c", "user.name=story", "-c", "user.email=story@example.com"]
        done = subprocess.run(
            [*command, *arguments], cwd=self.service.root, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _listed(self) -> Iterator[tuple[str, tuple[str, str]]]:
        """By path: mode and zone, then a hash of the content. What git ignores is not there."""
        manifest = json.loads((self.service.root / ".factfold/manifest.json").read_text())
        for line in self.git("ls-files", "--stage").splitlines():
            about, _, path = line.partition("\t")
            mode, blob, _ = about.split()
            zone = manifest["files"].get(path, {"zone": "-"})["zone"]
            yield path, (f"{mode[-3:]} {zone:6}", blob)

    def write(self, path: str, text: str) -> None:
        assert (self.service.root / path).exists(), path
        (self.service.root / path).write_text(text)

    def replace(self, path: str, old: str, new: str) -> None:
        text = (self.service.root / path).read_text()
        assert text.count(old) == 1, (path, old)
        (self.service.root / path).write_text(text.replace(old, new))

    def fill_in(self, path: str, body: str) -> None:
        """Puts `body` where a scaffolded file raises."""
        text = (self.service.root / path).read_text()
        begin = text.index("    raise NotImplementedError(")
        end = text.index("    )\n", begin) + len("    )\n")
        (self.service.root / path).write_text(text[:begin] + body + text[end:])


def test_a_service_grows(generate: Callable[..., Generated]) -> None:
    generate("payments")
    story = Story(generate("orders"))
    story.git("init", "--quiet", "--initial-branch", "main")
    story.step("new")

    story.factfold("add", "rpc", "CancelOrder", "--field", "id:string", "--field", "reason:string",
                   "--returns", "version:uint64")  # fmt: skip
    story.write("src/service/handlers/cancel_order.py", HANDLER)
    story.write("tests/test_cancel_order.py", HANDLER_TEST)
    story.step("add rpc CancelOrder, fill in its handler")

    story.factfold("add", "event", "OrderCancelled", "--field", "reason:string",
                   "--field", "quantity:int32")  # fmt: skip
    story.fill_in("src/service/folds/order_cancelled.py", FOLD)
    story.replace("src/service/handlers/cancel_order.py", RENAMED, CANCELLED)
    with (story.service.root / "src/service/handlers/watch_orders.py").open("a") as watch:
        watch.write(WATCHED)
    story.step("add event OrderCancelled, fill in its fold")

    story.factfold("add", "reaction", "refund_order", "--on", "OrderCancelled")
    story.fill_in("src/service/reactions/refund_order.py", "    return None\n")
    story.step("add reaction refund_order, fill it in")

    story.factfold("add", "subscription", "../payments")
    story.step("add subscription payments")

    story.factfold("contract", "release")
    story.step("contract release")

    for old, new, said in BREAKS:
        story.replace(CONTRACT, old, new)
        for command in ("check", "release"):
            refused = tried(story.service.root, "contract", command)
            assert refused.returncode != 0
            assert said in refused.stdout + refused.stderr
        story.git("checkout", "--quiet", "--", CONTRACT)
    story.factfold("contract", "check")
    assert story.factfold("sync", "--check") == "Nothing to write.\n"
    story.step("break the contract four ways, each refused and taken back; sync --check")

    told = "\n".join(story.told).lstrip() + "\n"
    if os.environ.get("FACTFOLD_APPROVE"):
        APPROVED.parent.mkdir(exist_ok=True)
        APPROVED.write_text(told)
    assert told == APPROVED.read_text()

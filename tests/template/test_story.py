"""A service from its first day on: each step leaves the tree that was approved, and green tests.

`approved/story-<language>.txt` has the tree after the first step, and what each later one changes
in it. FACTFOLD_APPROVE=1 writes it anew.
"""

import os
from pathlib import Path

import pytest
from tests.go_tools import go

from .conftest import tried
from .story import Story, Team
from .story_in_go import InGo
from .story_in_python import InPython

APPROVED = Path(__file__).parent / "approved"
CONTRACT = "protos/acme/orders/v1/contract.proto"

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


@pytest.mark.parametrize("language", ["python", "go"])
def test_a_service_grows(language: str, tmp_path: Path, mypy_cache: Path) -> None:
    team: Team = InPython(tmp_path, mypy_cache)
    if language == "go":
        go()
        team = InGo(tmp_path)
    team.make("payments")
    story = Story(team.make("orders"), team.check)
    story.git("init", "--quiet", "--initial-branch", "main")
    story.step("new")

    story.factfold("add", "rpc", "CancelOrder", "--field", "id:string", "--field", "reason:string",
                   "--returns", "version:uint64")  # fmt: skip
    team.cancel(story)
    story.step("add rpc CancelOrder, fill in its handler")

    story.factfold("add", "event", "OrderCancelled", "--field", "reason:string",
                   "--field", "quantity:int32")  # fmt: skip
    team.fold(story)
    story.step("add event OrderCancelled, fill in its fold")

    story.factfold("add", "reaction", "refund_order", "--on", "OrderCancelled")
    team.refund(story)
    story.step("add reaction refund_order, fill it in")

    story.factfold("add", "subscription", "../payments")
    story.step("add subscription payments")

    story.factfold("contract", "release")
    story.step("contract release")

    for old, new, said in BREAKS:
        story.replace(CONTRACT, old, new)
        for command in ("check", "release"):
            refused = tried(story.root, "contract", command)
            assert refused.returncode != 0
            assert said in refused.stdout + refused.stderr
        story.git("checkout", "--quiet", "--", CONTRACT)
    story.factfold("contract", "check")
    assert story.factfold("sync", "--check") == "Nothing to write.\n"
    story.step("break the contract four ways, each refused and taken back; sync --check")

    told = "\n".join(story.told).lstrip() + "\n"
    approved = APPROVED / f"story-{language}.txt"
    if os.environ.get("FACTFOLD_APPROVE"):
        approved.parent.mkdir(exist_ok=True)
        approved.write_text(told)
    assert told == approved.read_text()

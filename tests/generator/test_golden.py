"""Golden facts of contracts that go far: types that contain each other, what is required."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from factfold_cli.errors import Failed
from factfold_cli.golden import differences, golden_facts
from factfold_cli.own_contract import OwnContract, present

HEAD = """\
syntax = "proto2";
package acme.v1;
import "factfold/v1/options.proto";
option (factfold.v1.stream) = { name: "far" };
message Far {
  option (factfold.v1.event) = {};
  optional string id = 1 [(factfold.v1.key) = true];
  optional T0 first = 2;
}
"""


def test_types_that_all_contain_each_other(tmp_path: Path) -> None:
    fields = "".join(f"  optional T{at} t{at} = {at + 2};\n" for at in range(12))
    messages = [f"message T{at} {{\n  optional string s = 1;\n{fields}}}\n" for at in range(12)]
    contract, (fact,) = _golden(tmp_path, messages)
    # Each type says something somewhere, and there are not 12! of them.
    said = {name for name, value in _names(fact["event"], "T0") if value == "s"}
    assert said == {f"t{at}" for at in range(1, 12)} | {"first"}
    assert len(fact["entry"]["data"]) < 100_000
    assert list(differences(contract, fact)) == []


def test_a_chain_is_not_deeper_than_what_can_be_read(tmp_path: Path) -> None:
    chain = [f"message T{at} {{ optional T{at + 1} t = 1; }}\n" for at in range(150)]
    contract, (fact,) = _golden(tmp_path, [*chain, "message T150 {}\n"])
    assert list(differences(contract, fact)) == []


def test_what_is_required_is_there_at_any_depth(tmp_path: Path) -> None:
    contract, (fact,) = _golden(
        tmp_path, ["message T0 { required string s = 1; optional T0 t = 2; required int32 n = 3; }"]
    )
    assert fact["event"]["first"] == {"s": "s", "n": -3, "t": {"s": "s", "n": -3}}
    assert list(differences(contract, fact)) == []


def test_what_nobody_can_write_is_said(tmp_path: Path) -> None:
    with pytest.raises(Failed, match=r"nobody can write acme\.v1\.Far: it requires a message"):
        _golden(tmp_path, ["message T0 { required T0 t = 1; }\n"])


def _golden(root: Path, messages: list[str]) -> tuple[OwnContract, list[dict[str, Any]]]:
    (root / "protos").mkdir()
    (root / "protos/far.proto").write_text(HEAD + "".join(messages))
    contract = present(root, {"subscriptions": []})
    (event,) = contract.events.values()
    return contract, golden_facts(contract, event)


def _names(event: dict[str, Any], above: str) -> Iterator[tuple[str, Any]]:
    """What is in each message, with the name of the field that the message is in."""
    for name, value in event.items():
        if isinstance(value, dict):
            yield from _names(value, name)
        else:
            yield above, value

"""All or nothing, whatever happens meanwhile: room, signals, others at work, bad manifests."""

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from factfold_cli.errors import Failed
from factfold_cli.working_copy import working_copy

from .conftest import User, tree

CONTRACT = "protos/acme/orders/v1/contract.proto"
RPC = "  rpc CancelOrder(GetOrderRequest) returns (GetOrderResponse);\n"


@pytest.fixture
def orders(user: User) -> Path:
    done = user.factfold("new", "orders", "--no-input")
    assert (done.returncode, done.stderr) == (0, "")
    return user.here / "orders"


def test_a_full_disk_loses_nothing(user: User, orders: Path) -> None:
    (orders / "kept").write_text("k" * 300)
    before = tree(orders)
    # No file may be longer than 200 bytes: neither the new one nor, once cut, the former.
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import resource, sys\n"
            "from pathlib import Path\n"
            "from factfold_cli import manifest\n"
            "from factfold_cli.placing import place\n"
            "root = Path(sys.argv[1])\n"
            "known = manifest.read(root)\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))\n"
            "place(root, {'a/new': b'n', 'kept': b'n' * 400}, known)\n",
            str(orders),
        ],
        env=user.environment(),
        capture_output=True,
        text=True,
    )
    assert "OSError: [Errno 27]" in done.stderr
    assert tree(orders) == before


def test_a_signal_half_way_leaves_nothing(user: User, orders: Path, clone: Path) -> None:
    _insert(orders / CONTRACT, RPC)
    placing = clone / "generator/factfold_cli/placing.py"
    text = placing.read_text()
    assert text.count("                    done.append(path)\n") == 1
    placing.write_text(
        text.replace(
            "                    done.append(path)\n",
            "                    done.append(path)\n                    os.kill(os.getpid(), 15)\n",
        )
    )
    before = tree(orders)
    done = user.factfold("sync", at=orders, clone=clone)
    assert (done.returncode, done.stderr.lstrip("\n")) == (1, "factfold: interrupted\n")
    assert tree(orders) == before
    assert list(user.temporary.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    ["sync", "add event OrderLost", "add subscription ../orders", "contract release"],
)
def test_two_do_not_write_at_once(user: User, orders: Path, words: str) -> None:
    _insert(orders / CONTRACT, RPC)
    before = tree(orders)
    with _at_work(orders):
        done = user.factfold(*words.split(), at=orders)
    assert (done.returncode, done.stdout, done.stderr) == (
        2,
        "",
        f"factfold: another factfold is changing {str(orders)!r}; run this once it has ended\n",
    )
    assert tree(orders) == before


def test_looking_disturbs_nobody(user: User, orders: Path) -> None:
    with _at_work(orders):
        done = user.factfold("sync", "--check", at=orders)
    assert (done.returncode, done.stdout) == (0, "Nothing to write.\n")


def test_what_is_edited_meanwhile_is_kept(orders: Path) -> None:
    with working_copy(orders) as copy:
        (copy.folder / CONTRACT).write_text("ours")
        (orders / CONTRACT).write_text("theirs")
        before = tree(orders)
        with pytest.raises(Failed, match=f"'{CONTRACT}' was edited meanwhile"):
            copy.take_over()
    assert tree(orders) == before


@pytest.mark.parametrize("path", ["protos/../../other/file", "/etc/other"])
def test_a_manifest_that_leads_out_is_damaged(user: User, orders: Path, path: str) -> None:
    manifest = orders / ".factfold/manifest.json"
    content = json.loads(manifest.read_text())
    content["subscriptions"] = [{"name": "other", "source": "../other", "contract": {path: "0"}}]
    manifest.write_text(json.dumps(content))
    done = user.factfold("sync", at=orders)
    assert (done.returncode, done.stderr) == (
        1,
        f"factfold: {str(manifest)!r} is damaged ({path!r} is not in the repository);"
        " take it back from git\n",
    )


@pytest.mark.parametrize("words", ["sync", "contract release", "add reaction thank --on Lost"])
def test_a_stream_name_becomes_no_code(user: User, orders: Path, words: str) -> None:
    contract = orders / CONTRACT
    evil = r"orders\"); print(\"made"
    contract.write_text(contract.read_text().replace('name: "orders"', f'name: "{evil}"'))
    before = tree(orders)
    done = user.factfold(*words.split(), at=orders)
    assert (done.returncode, done.stderr) == (
        1,
        f"""factfold: {CONTRACT}: the stream name 'orders"); print("made' must be 1 to 64"""
        " characters of a-z, 0-9, '-' and '.'\n",
    )
    assert tree(orders) == before


def test_no_module_of_the_repository_is_run(user: User, orders: Path) -> None:
    (orders / "grpc_tools").mkdir()
    for name in ("__init__.py", "protoc.py"):
        (orders / "grpc_tools" / name).write_text(
            f"from pathlib import Path\nPath({str(user.here / 'run')!r}).touch()\n"
        )
    done = user.factfold("sync", "--check", at=orders)
    assert (done.returncode, done.stderr) == (0, "")
    assert not (user.here / "run").exists()


@pytest.mark.parametrize("name", ["--descriptor_set_out=made.proto", "@options.proto"])
def test_the_name_of_a_file_is_no_option(user: User, orders: Path, name: str) -> None:
    (orders / "protos" / name).write_text("--descriptor_set_out=made.proto")
    before = tree(orders)
    done = user.factfold("sync", at=orders)
    assert (done.returncode, done.stderr) == (
        1,
        f"factfold: {f'protos/{name}'!r} is no name of a contract's file; rename it\n",
    )
    assert tree(orders) == before


def test_a_comment_does_not_move_the_cursor_and_is_not_rendered(user: User, orders: Path) -> None:
    contract = orders / CONTRACT
    text = contract.read_text()
    comment = "// {{7*7}} {% raw %} $(id) \u202e\x07\x1b[2J\n"
    text = text.replace("// A row of the view.\n", comment)
    contract.write_text(text.replace("string name = 2;\n}", f"string name = 2;  {comment}}}"))
    done = user.factfold("add", "event", "OrderLost", at=orders)
    assert (done.returncode, done.stderr) == (0, "")
    shown = r"     string name = 2;  // {{7*7}} {% raw %} $(id) \u202e\u0007\u001b[2J"
    assert shown in done.stdout.splitlines()
    assert comment in contract.read_text()
    assert "{{7*7}} {% raw %} $(id)" in (orders / "docs/api.md").read_text()


def _insert(path: Path, rpc: str) -> None:
    text = path.read_text()
    path.write_text(text.replace("service OrderService {\n", "service OrderService {\n" + rpc))


@contextmanager
def _at_work(root: Path) -> Iterator[None]:
    """Another process that changes `root`."""
    folder = os.open(root / ".factfold", os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)

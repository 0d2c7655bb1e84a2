"""The page on operating of a generated repository: its Python is run as it stands there."""

import os
import re
import subprocess
from pathlib import Path

import trustme

from factfold_cli.redis_server import RedisServer

from .conftest import Start
from .running import Made

PLAIN = "127.0.0.1:50051"  # in the page


def block(made: Made, first: str) -> str:
    page = (made.root / "docs/operating.md").read_text()
    (code,) = re.findall(rf"^```python\n# {re.escape(first)}.*?\n(.*?)^```$", page, re.M | re.S)
    return str(code)


def called(made: Made, here: Path, code: str) -> list[str]:
    """What the code prints, run in the folder `here`."""
    paths = [str(made.root / name) for name in ("src", "gen", "chassis/src")]
    done = subprocess.run(
        [str(made.python), "-c", code],
        cwd=here,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


async def test_an_rpc_is_called_without_any_other_tool(
    orders: Made, start: Start, server: RedisServer
) -> None:
    code = block(orders, "call.py")
    assert PLAIN in code
    lines = called(orders, orders.root, code.replace(PLAIN, await start(orders).address()))
    assert lines[0].startswith('id: "')
    assert lines[-1].startswith("orders/")


async def test_an_rpc_is_called_with_mutual_tls(
    orders: Made, start: Start, server: RedisServer, tmp_path: Path
) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    (tmp_path / "tls.crt").write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    (tmp_path / "tls.key").write_bytes(issued.private_key_pem.bytes())
    (tmp_path / "ca.crt").write_bytes(authority.cert_pem.bytes())
    names = {"CERT": "tls.crt", "KEY": "tls.key", "CA": "ca.crt"}
    files = {f"FACTFOLD_TLS_{kind}_FILE": str(tmp_path / name) for kind, name in names.items()}
    address = await start(orders, **files).address()
    opening = f'with grpc.insecure_channel("{PLAIN}") as channel:'
    plain = block(orders, "call.py")
    assert opening in plain
    code = block(orders, "instead of insecure_channel") + "with channel:"
    imports, calls = plain.split(opening)
    lines = called(orders, tmp_path, (imports + code + calls).replace(PLAIN, address))
    assert lines[-1].startswith("orders/")

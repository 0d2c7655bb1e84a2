"""The same users on a cluster, whose nodes log in at each other as the admin."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults.servers import Kind
from system.running import Made, Process
from topologies import Cluster

from .conftest import Held, acl
from .test_services import create, running, said, shipped

__all__ = ["running"]
FACTS = 20


@pytest.fixture
def cluster(
    kind: Kind | str, folder: Path, shipments: Made, tmp_path: Path
) -> Iterator[tuple[Cluster, dict[str, Held]]]:
    if isinstance(kind, str):
        pytest.skip(f"no {kind} is on this machine")
    selectors = kind.program != "redis-6.2"
    words = ["--output", str(tmp_path / "acl"), "--server", "7" if selectors else "6.2"]
    acl(folder, *words)
    admin = (tmp_path / "acl/factfold-admin.url").read_text().partition("//")[2]
    user, _, password = admin.partition("@")[0].partition(":")
    options = ["--aclfile", str(tmp_path / "acl/users.acl")]
    with Cluster(
        3, 0, options=options, binary=kind.binary, user=user, password=password
    ) as cluster:
        acl(folder, *words, "--redis", cluster.url)
        held = {str(n.port): Held(n.port, tmp_path / "acl", selectors) for n in cluster.nodes}
        yield cluster, held


async def test_services_need_no_more_on_a_cluster(
    cluster: tuple[Cluster, dict[str, Held]],
    orders: Made,
    shipments: Made,
    running: list[Process],
    tmp_path: Path,
) -> None:
    its, held = cluster
    users = tmp_path / "acl"
    for made in (orders, shipments):
        name = made.root.name
        settings = {}
        if (reads := users / f"{name}-reads.url").exists():
            settings["FACTFOLD_REDIS_READ_URL_FILE"] = str(reads)
        url = (users / f"{name}.url").read_text().strip()
        assert url.startswith("redis+cluster://")
        running.append(Process(made, url, **settings))
    await create(orders, running[0], *(f"order {at}" for at in range(FACTS)))
    for _ in range(500):
        if await shipped(shipments, running[1]) == FACTS:
            break
        await asyncio.sleep(0.03)
    else:
        pytest.fail("not all were answered")
    # A slot moves under way: what the redirections need is allowed, too.
    source = its.master_of("{orders/0}:log")
    target = next(node for node in its.masters if node is not source)
    moving = asyncio.to_thread(its.move, "{orders/0}:log", target, pause=0.1)
    await asyncio.gather(moving, create(orders, running[0], *(f"more {at}" for at in range(FACTS))))
    for _ in range(500):
        if await shipped(shipments, running[1]) == 2 * FACTS:
            break
        await asyncio.sleep(0.03)
    else:
        pytest.fail("not all were answered once a slot had moved")
    # The command line, too.
    for user, *words in (
        ("factfold-viewer", "tail", "orders", "--no-follow"),
        ("factfold-viewer", "lag"),
        ("factfold-viewer", "dead-letters", "list"),
        ("factfold-operator", "trim", "orders", "--before", "30d"),
    ):
        url = (users / f"{user}.url").read_text().strip()
        await said(url, *words)
    url = (users / "factfold-viewer.url").read_text().strip()
    found = json.loads(await said(url, "doctor", "--json"))["findings"]
    logs = [each for each in found if each["name"].startswith(("stream ", "log "))]
    assert [(each["name"], each["state"]) for each in logs] == [
        ("stream orders", "ok"), ("stream shipments", "ok")
    ]  # fmt: skip
    for each in held.values():
        assert [entry for entry in each.denied() if not re.search(" (client|config)", entry)] == []

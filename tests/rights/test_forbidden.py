"""Each forbidden command, tried under each role: the server refuses it, or the audit notices."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis
from cli.letters import script
from cli.streams import Stream
from redis.exceptions import NoPermissionError

from factfold_cli.log_audit import faults

from . import deeds
from .conftest import Held, Tried
from .deeds import Deed

# Anything may be asked before somebody says who he is.
ALWAYS = {"auth", "hello", "quit", "reset"}
CONNECT = {
    "ping", "select", "info", "role", "time", "asking", "cluster|slots", "cluster|shards",
    "cluster|myid",
}  # fmt: skip
READ = {"hget", "hmget", "hgetall", "hrandfield", "exists", "xread", "xrange"}
WRITE = {
    "evalsha", "script|load", "wait", "xadd", "xgroup|create", "xgroup|destroy", "xgroup|setid",
    "hset", "hdel", "hsetnx", "hincrby",
}  # fmt: skip
LOOK = CONNECT | READ | {
    "hlen", "hscan", "type", "xlen", "xrevrange", "xinfo|stream", "xinfo|groups",
    "xinfo|consumers", "memory|usage", "cluster|info", "command", "scan", "multi", "exec",
    "discard", "wait",
}  # fmt: skip
NEEDED = {
    "orders": CONNECT | READ | WRITE,
    "shipments": CONNECT | READ | WRITE,
    "shipments-reads": CONNECT | {"exists", "hmget", "xread", "xrange"},
    "factfold-viewer": LOOK,
    "factfold-operator": LOOK | {
        "evalsha", "script|load", "script|exists", "del", "unlink", "hset", "hincrby", "hdel",
        "xgroup|create", "xgroup|destroy", "xtrim",
    },
}  # fmt: skip
# 6.2 does not tell what a command has.
SUBCOMMANDS = {
    "acl": "cat deluser genpass getuser list load log save setuser users whoami",
    "client": "caching getname getredir id info kill list pause reply setname tracking unblock",
    "cluster": "addslots countkeysinslot delslots failover flushslots forget getkeysinslot info "
    "keyslot meet myid nodes replicate reset saveconfig set-config-epoch setslot slots",
    "config": "get resetstat rewrite set",
    "memory": "doctor malloc-stats purge stats usage",
    "module": "list load unload",
    "object": "encoding freq idletime refcount",
    "script": "debug exists flush kill load",
    "slowlog": "get len reset",
    "xgroup": "create createconsumer delconsumer destroy setid",
    "xinfo": "consumers groups stream",
}


def made(held: Held) -> tuple[Stream, Stream, redis.Redis]:
    """Streams with ten facts in partition 0, and the groups of both services."""
    admin = held.client("factfold-admin")
    streams = [
        Stream(held.url("factfold-admin"), name) for name in ("orders", "shipments", "bills")
    ]
    for stream in streams:
        fill(stream)
    admin.set("session:17", "v")
    admin.hset("{elsewhere}:hash", "f", "v")
    for stream, group in (
        ("orders", "orders.announce_order"),
        ("orders", f"shipments.{deeds.THEIRS}"),
        ("shipments", "bills.bill"),
        ("orders", "bills.bill"),
    ):
        place = f"{{{stream}/0}}"
        keys = [f"{place}:head", *(f"{place}:{kind}:{group}" for kind in deeds.STATE)]
        script(admin, "claim", keys, group, streams[0].epoch, "member", "nonce", "", "")
        script(admin, "member", [f"{{{stream}}}:members:{group}"], "member")
        admin.hset(f"{place}:cursors:{group}", mapping={"_": "1", "i": "0-0 1"})
    return streams[0], streams[1], admin


def fill(stream: Stream) -> None:
    stream.append(0, [(f"k-{at}", "acme.T", b"", b"") for at in range(10)])


class Trying:
    """A connection as one user, without what redis-py adds."""

    def __init__(self, held: Held, name: str) -> None:
        self.name = name
        self.client = held.client(name)
        self._connection: Any = self.client.connection_pool.get_connection()

    def __call__(self, *command: Any) -> Any:
        """The reply, or the server's error."""
        self._connection.send_command(*command)
        try:
            return self._connection.read_response(disable_decoding=True)
        except redis.ResponseError as error:
            return error

    def refused(self, *command: Any) -> bool:
        reply = self(*command)
        # Of EXEC the refusal is the reason of another error.
        return isinstance(reply, NoPermissionError) or (
            isinstance(reply, redis.ResponseError) and "NOPERM" in str(reply)
        )


@pytest.fixture
def users(held: Held) -> Iterator[dict[str, Trying]]:
    names = [name for name in NEEDED if held.file(name).exists()]
    assert len(names) == 5 - held.selectors
    trying = {name: Trying(held, name) for name in names}
    yield trying
    for each in trying.values():
        each.client.close()


def commands(admin: redis.Redis) -> dict[str, list[str]]:
    """All that the server has, by name (`container|subcommand`), as one can be sent."""
    entries: Any = admin.execute_command("COMMAND")
    found: dict[str, list[str]] = {}
    for entry in entries.values() if isinstance(entries, dict) else entries:
        name, arity = str(entry["name"]), int(entry["arity"])
        container = entry.get("subcommands") or [
            [f"{name}|{each}", -3] for each in SUBCOMMANDS.get(name, "").split()
        ]
        for sub in container:
            full = sub[0].decode() if isinstance(sub[0], bytes) else str(sub[0])
            words = full.split("|")
            found[full] = [*words, *["{orders/0}:log"] * (abs(int(sub[1])) - 2)]
        if not container:
            found[name] = [name, *["{orders/0}:log"] * (abs(arity) - 1)]
    return found


def test_no_role_has_a_command_that_it_does_not_need(
    held: Held, users: dict[str, Trying], tried: Tried
) -> None:
    _, _, admin = made(held)
    every = commands(admin)
    assert len(every) > 280, sorted(every)
    assert {"flushall", "config|set", "acl|setuser", "eval", "xsetid", "debug"} <= every.keys()
    for name, trying in users.items():
        its = {each for each in every if each.split("|")[0] in NEEDED[name]} | NEEDED[name]
        unneeded = every.keys() - its - ALWAYS
        passed = {each for each in unneeded if not trying.refused(*every[each])}
        assert passed == set(), name
        tried.count(name, "commands that it does not need", refused=len(unneeded))


def forbidden(name: str, selectors: bool) -> Iterator[Deed]:
    """What a role must not do with commands that it has, or has not, on keys of others."""
    if name in ("orders", "shipments", "shipments-reads"):
        others = ["orders", "bills"] if name != "orders" else ["shipments", "bills"]
        for stream in others:
            yield from deeds.to_stream("change another's stream", stream)
        yield from deeds.to_state("state of another's groups and views", "orders", "bills", "bill")
        if name == "orders":
            yield from deeds.to_state(
                "state of another's groups and views", "orders", "shipments", deeds.THEIRS
            )
            yield from deeds.to_read("read a stream it does not subscribe to", "shipments")
        else:
            yield from deeds.to_state(
                "state of another's groups and views", "orders", "orders", "announce_order"
            )
            yield from deeds.to_read("read a stream it does not subscribe to", "bills")
    if name in ("orders", "shipments"):
        yield from deeds.to_own("change its own stream as no script does", name)
    if name == "shipments-reads":
        yield from deeds.to_stream("change its own stream as no script does", "shipments")
    if name == "factfold-viewer":
        for stream in ("orders", "shipments"):
            yield from deeds.to_stream("change another's stream", stream)
    if name == "factfold-operator":
        # It begins streams anew, trims them, registers and drops readers.
        may = {"XTRIM", "DEL", "UNLINK", "HSET", "HINCRBY", "HDEL"}
        for deed in deeds.to_stream("change another's stream", "orders"):
            if deed.command[0] not in may and deed.command[1] not in ("CREATE", "DESTROY"):
                yield deed
        if selectors:
            for kind in ("group", "outbox", "dead", "dead-keys"):
                key = f"{{orders/0}}:{kind}:orders.announce_order"
                for command in deeds.CHANGES:
                    if command[0] not in ("DEL", "UNLINK"):
                        yield Deed("state of another's groups and views", deeds.on(key, command))
    for deed in deeds.to_other_keys("keys of other programs"):
        if not (name.startswith("factfold-") and deed.command[1].startswith("{")):
            yield deed


def test_no_role_reaches_what_is_anothers(
    held: Held, users: dict[str, Trying], tried: Tried
) -> None:
    _, _, admin = made(held)
    before = snapshot(admin)
    do = admin.script_load("return redis.call(unpack(ARGV))")
    lua = {name for name in users if "evalsha" in NEEDED[name]}
    for name, trying in users.items():
        for deed in forbidden(name, held.selectors):
            reply = trying(*deed.command)
            assert isinstance(reply, NoPermissionError), (name, deed.command, reply)
            tried.count(name, deed.what, refused=1)
            if deed.lua and name in lua:
                # Without keys, so that nothing but the command inside is looked at.
                reply = trying("EVALSHA", do, 0, *deed.command)
                assert isinstance(reply, redis.ResponseError), (name, deed.command, reply)
                said = str(reply)
                assert "can't run this command" in said or "can't access at least one" in said, said
                tried.count(name, f"{deed.what}, from a script", refused=1)
    assert snapshot(admin) == before


def snapshot(admin: redis.Redis) -> dict[bytes, Any]:
    return {key: admin.dump(key) for key in admin.scan_iter(count=1000)}


@pytest.mark.parametrize("name", ["orders", "shipments"])
def test_the_audit_notices_what_rights_cannot_prevent(
    held: Held, users: dict[str, Trying], tried: Tried, name: str
) -> None:
    orders, shipments, admin = made(held)
    stream = orders if name == "orders" else shipments
    do = admin.script_load("return redis.call(unpack(ARGV))")
    for lua in (False, True):
        for at in range(len(deeds.self_damage(name, 0, 0))):
            assert faults(admin, name) == []
            ms, n = admin.hmget(stream.keys(0)[1], "ms", "n")
            deed = deeds.self_damage(name, int(ms), int(n))[at]
            reply = users[name](*(["EVALSHA", do, 0] if lua else []), *deed.command)
            assert not isinstance(reply, redis.ResponseError), (deed.command, reply)
            with held.client("factfold-viewer") as viewer:
                assert faults(viewer, name), deed.command
            tried.count(name, f"{deed.what}{', from a script' * lua}", alarm=1)
            admin.delete(*stream.keys(0))
            script(admin, "create", stream.keys(0), stream.count, stream.epoch)
            fill(stream)


def test_a_subscriber_who_takes_the_place_of_a_head_is_refused_or_noticed(
    held: Held, users: dict[str, Trying], tried: Tried
) -> None:
    """On 6.2 the user who answers facts can create consumer groups wherever it can read."""
    _, _, admin = made(held)
    what = "keep another's stream from being created"
    take = ("XGROUP", "CREATE", "{orders/9}:head", "g", "0", "MKSTREAM")
    for name in users.keys() - {"factfold-viewer", "factfold-operator", "orders"}:
        if users[name].refused(*take):
            tried.count(name, what, refused=1)
            continue
        assert (name, held.selectors) == ("shipments", False)
        assert [each.found for each in faults(admin, "orders")] == [
            "its head is no hash: somebody else has written there"
        ]
        tried.count(name, what, alarm=1)


def test_the_audit_notices_an_operator_who_trims_by_hand(
    held: Held, users: dict[str, Trying], tried: Tried
) -> None:
    _, _, admin = made(held)
    what = "trim without saying so"
    assert users["factfold-operator"]("XTRIM", deeds.ORDERS_LOG, "MAXLEN", 3) == 7
    assert faults(admin, "orders")
    tried.count("factfold-operator", what, alarm=1)


def test_nobody_gets_in_without_a_name(held: Held, tried: Tried) -> None:
    with redis.Redis(port=held.port, protocol=2, driver_info=None) as nobody:
        every = commands(held.client("factfold-admin"))
        connection: Any = nobody.connection_pool.get_connection()
        for name in every.keys() - ALWAYS:
            connection.send_command(*every[name])
            with pytest.raises(redis.RedisError, match="Authentication required"):
                connection.read_response()
        tried.count("(no user)", "commands that it does not need", refused=len(every))


def test_a_right_that_is_missing_is_one_command_of_a_script(held: Held) -> None:
    """Why each right is counted: a script that meets a refusal has done half of its work."""
    orders, _, admin = made(held)
    admin.execute_command("ACL", "SETUSER", "half", "on", "nopass", "~*", "-@all", "+evalsha",
                          "+xadd", "+hget", "+hmget", "+time", "+script")  # fmt: skip
    with redis.Redis(port=held.port, username="half", password="x", protocol=2) as half:
        add = half.script_load(
            "redis.call('XADD', KEYS[1], '*', 'f', 'v') return redis.call('HSET', KEYS[2], 'n', 1)"
        )
        with pytest.raises(redis.ResponseError, match="can't run this command"):
            half.evalsha(add, 2, *orders.keys(0)[:2])
    assert admin.xlen(orders.keys(0)[0]) == 11
    assert faults(admin, "orders")

"""Dead letters in a real log, written and carried out by the scripts as an owner does it."""

import threading
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import redis

from factfold.v1.fact_pb2 import DeadLetter, FactMeta
from factfold_cli.templates import LUA

EPOCH = "00112233aabbccdd"
CAUSE = uuid.UUID("01890a5d-ac96-774b-bcce-b302099a8057")


def client(url: str) -> Any:
    """Of one server, or of a cluster."""
    if "+cluster" not in url:
        return redis.Redis.from_url(url, protocol=2)
    host, port = url.partition("://")[2].split(",")[0].split(":")
    return redis.RedisCluster(host, int(port), protocol=2)


def script(log: Any, name: str, keys: Sequence[str], *args: Any) -> Any:
    return log.eval((LUA / f"{name}.lua").read_text(), len(keys), *keys, *args)


class Owner:
    """One partition of a stream with one group, as the instance that owns it sees both."""

    def __init__(
        self, url: str, group: str, stream: str = "orders", partition: int = 2, count: int = 4
    ) -> None:
        self.log = client(url)
        self.group = group
        self.place = f"{stream}/{partition}"
        script(self.log, "create", self._stream_keys(), count, EPOCH)
        keys = [f"{{{self.place}}}:head", *self._keys("group", "outbox", "dead", "dead-keys"),
                *self._keys("redrive")]  # fmt: skip
        status, token, position, *_ = script(
            self.log, "claim", keys, group, EPOCH, "instance-1", "nonce", "", ""
        )
        assert status == b"OK"
        self.token, self.position = token, position
        self.asked: list[bytes] = []
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def _keys(self, *names: str) -> list[str]:
        return [f"{{{self.place}}}:{name}:{self.group}" for name in names]

    def _stream_keys(self) -> list[str]:
        return [f"{{{self.place}}}:{name}" for name in ("log", "head", "producers", "versions")]

    def fact(self, key: str, type: str, data: bytes, **meta: Any) -> int:
        """Appends one; returns its n."""
        known: dict[str, Any] = {
            "id": uuid.UUID("01890a5d-0000-7000-8000-000000000000").bytes[:15] + b"\x01",
            "source": "/orders",
            "time_unix_nano": 1_700_000_000_000_000_000,
        }
        given = FactMeta(**(known | meta)).SerializeToString()
        sequence = int(self.log.hget(f"{{{self.place}}}:head", "n") or 0)
        args = ["batch", sequence + 1, sequence, "", "", type, key, given, data]
        reply = script(self.log, "append", self._stream_keys(), EPOCH, "producer", *args)
        assert reply[0] == b"OK", reply
        return int(reply[2])

    def put_aside(self, n: int, **letter: Any) -> str:
        """Commits the position past fact `n`, which becomes a dead letter; returns its place."""
        ((entry_id, fields),) = self.entries(n)
        whole = DeadLetter(entry_id=entry_id, fields=fields, **letter)
        return self.commit(n, entry_id, dict(zip(fields[::2], fields[1::2], strict=True)), whole)

    def commit(self, n: int, entry_id: bytes, fields: Any, letter: DeadLetter) -> str:
        keys = self._keys("group", "outbox", "dead", "dead-keys")
        args = [self.token, self.position, entry_id, "", self.group, 1]
        key = fields.get(b"key", b"")
        reply = script(self.log, "commit", keys, *args, n, key, letter.SerializeToString())
        assert reply == [b"OK"], reply
        self.position = entry_id
        return f"{self.place}:{n}"

    def entries(self, n: int) -> list[tuple[bytes, list[bytes]]]:
        """The entry of fact `n`, raw."""
        key, server = f"{{{self.place}}}:log", self.log
        if isinstance(server, redis.RedisCluster):
            server = server.get_redis_connection(server.get_node_from_key(key))
        connection: Any = server.connection_pool.get_connection()
        connection.send_command("XRANGE", key, "-", "+")
        entries = connection.read_response(disable_decoding=True)
        server.connection_pool.release(connection)
        return [(id, fields) for id, fields in entries if id.endswith(b"-%d" % n)]

    def letter(self, n: int) -> DeadLetter | None:
        raw: Any = self.log.hget(self._keys("dead")[0], str(n))
        return None if raw is None else DeadLetter.FromString(raw)

    def line(self, key: str) -> list[int]:
        """The n of the letters of a key."""
        ns: Any = self.log.hget(self._keys("dead-keys")[0], key)
        return [int(n) for n in (ns or b"").split(b",") if n]

    def beat(self) -> list[tuple[int, bytes]]:
        """What is asked for, in order."""
        status, *asked = script(self.log, "beat", self._keys("group", "redrive"), self.token)
        assert status == b"OK"
        pairs = zip(map(int, asked[::2]), asked[1::2], strict=True)
        return sorted(pairs)

    def change(self, n: int, letter: DeadLetter | None, *requests: int) -> None:
        old = self.letter(n)
        assert old is not None
        fields = dict(zip(old.fields[::2], old.fields[1::2], strict=True))
        raw = b"" if letter is None else letter.SerializeToString()
        keys = self._keys("group", "dead", "dead-keys", "redrive")
        args = [self.token, 1, n, fields.get(b"key", b""), raw, *requests]
        assert script(self.log, "letters", keys, *args) == [b"OK"]

    def runs(self, handler: Callable[[DeadLetter], str] | None) -> None:
        """Carries out requests until `close`; `handler` gives the error of a try, or "".

        None: the owner is alive, and comes to nothing.
        """
        self._thread = threading.Thread(target=self._run, args=(handler,))
        self._thread.start()

    def _run(self, handler: Callable[[DeadLetter], str] | None) -> None:
        while not self._stop.wait(0.05):
            for sequence, request in self.beat() if handler else (self.beat() and ()):
                self.asked.append(request)
                what, _, n = request.partition(b":")
                letter = self.letter(int(n))
                assert letter is not None
                if what == b"discard":
                    self.change(int(n), None, sequence)
                    continue
                letter.state, letter.attempts = DeadLetter.RETRYING, 0
                self.change(int(n), letter, sequence)
                fields = dict(zip(letter.fields[::2], letter.fields[1::2], strict=True))
                self._try(self.line(fields[b"key"].decode()), handler)

    def _try(self, line: list[int], handler: Any) -> None:
        for n in line:
            letter = self.letter(n)
            assert letter is not None
            time.sleep(0.1)
            if error := handler(letter):
                letter.attempts += 1
                letter.error, letter.failed_unix_nano = error, time.time_ns()
                letter.state = DeadLetter.DEAD if "hopeless" in error else DeadLetter.RETRYING
                self.change(n, letter)
                return
            self.change(n, None)

    def close(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self.log.close()

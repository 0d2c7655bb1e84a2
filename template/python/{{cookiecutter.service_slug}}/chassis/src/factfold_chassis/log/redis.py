"""Where the log's servers are, and links to them: one server, a cluster, or behind sentinels.

redis-py makes each connection (URL, TLS, authentication). Its clients are not used: their retries
would send an XADD twice (docs/protocol.md, Append).
"""

import asyncio
import random
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Any

from redis.asyncio import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import AskError, MovedError, RedisError, ResponseError

from factfold_chassis.log import redis_tls
from factfold_chassis.log.link import CONNECT_TIMEOUT, Link, LinkLost, NoLink, reason_of
from factfold_chassis.log.url import CLUSTER, SENTINEL, Address, LogUrl


class Redis:
    """The log's servers; opens links to them."""

    def __init__(self, url: str):
        self._url = LogUrl.parse(url)
        kinds = {CLUSTER: _Cluster, SENTINEL: _Sentinels}
        self._servers = kinds.get(self._url.kind, _Single)(self._url)

    @property
    def sharded(self) -> bool:
        """Whether partitions may lie on different servers."""
        return self._servers.sharded

    @asynccontextmanager
    async def link(self, *keys: str) -> AsyncIterator[Link]:
        """An open link to the server of `keys`, which are of one slot; closed at the end.

        While the slot is on its way to another server, the link is of use for these keys alone.

        Raises:
            LinkLost: there is none now; later there may be one.
        """
        async with self._servers.link(*await self._servers.find(keys)) as link:
            yield link

    @asynccontextmanager
    async def links(self) -> AsyncIterator["Links"]:
        """Links for work on several partitions, closed at the end."""
        async with AsyncExitStack() as stack:
            yield Links(self._servers, stack)


class Links:
    """One link a server, opened when it is first needed."""

    def __init__(self, servers: "_Single", stack: AsyncExitStack):
        self._servers = servers
        self._stack = stack
        self._opened: dict[_Found, Link] = {}
        self._away: dict[_Found, str] = {}  # why there is none; not tried again
        self._known: dict[tuple[str, ...], Link] = {}  # by what was asked for
        self._opening = asyncio.Lock()

    async def to(self, *keys: str) -> Link:
        """As Redis.link. One that turns out to be wrong is lost, and all others with it."""
        its = keys if self._servers.sharded else ()
        if its not in self._known:
            async with self._opening:
                found = await self._servers.find(its)
                if found not in self._opened:
                    self._opened[found] = await self._open(found)
                self._known[its] = self._opened[found]
        return self._known[its]

    async def _open(self, found: "_Found") -> Link:
        if found in self._away:
            raise NoLink(self._away[found])
        try:
            return await self._stack.enter_async_context(self._servers.link(*found))
        except LinkLost as lost:
            self._away[found] = str(lost)
            raise


# A server, and, if their slot is still on its way to it, the keys that it is asked for.
_Found = tuple[Address, tuple[str, ...]]
_SOCKET = Address("the socket", 0)


class _Single:
    """One server, always the same."""

    sharded = False

    def __init__(self, url: LogUrl):
        self._url = url
        self._at = url.addresses[0] if url.addresses else _SOCKET
        self._pools: dict[str, Any] = {}

    async def find(self, keys: Iterable[str]) -> _Found:
        """Where `keys` are. Raises LinkLost."""
        return self._at, ()

    @asynccontextmanager
    async def link(self, address: Address, asking: tuple[str, ...]) -> AsyncIterator[Link]:
        async with self._connected(self._url.text, self._at) as link:
            yield link

    @asynccontextmanager
    async def _connected(
        self, url: str, at: Address, *, asking: bool = False
    ) -> AsyncIterator[Link]:
        if url not in self._pools:
            self._pools[url] = ConnectionPool.from_url(
                url,
                protocol=2,
                socket_timeout=None,
                socket_connect_timeout=CONNECT_TIMEOUT,
                retry=Retry(NoBackoff(), 0),
            )
        connection = self._pools[url].make_connection()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await connection.connect()
        except (RedisError, OSError, TimeoutError) as error:
            why = redis_tls.reason(error, url, "FACTFOLD_REDIS_URL")
            if not why and isinstance(error, TimeoutError):
                who = at if at.port else at.host
                why = f"{who} did not answer within {CONNECT_TIMEOUT:g} s"
            raise NoLink(why or reason_of(error)) from error
        redirected = partial(self._redirected, at)
        try:
            yield Link(connection._writer.transport, redirected, asking=asking)
        finally:
            # Never handed on: a cancelled blocking read leaves a connection out of step.
            with suppress(RedisError, OSError):
                await connection.disconnect(nowait=True)

    def _redirected(self, at: Address, error: ResponseError) -> None:
        """The server `at` has said that what it was asked for is not there. May raise LinkLost."""
        if isinstance(error, AskError):
            raise LinkLost(f"{at} is one node of a cluster: begin the URL with redis+cluster://")


class _Sentinels(_Single):
    """One server that others follow; sentinels know which one it is."""

    def __init__(self, url: LogUrl):
        super().__init__(url)
        self._sentinels = [*url.addresses]
        self._told_of: dict[Address, Address] = {}  # by server: the sentinel that named it last

    async def find(self, keys: Iterable[str]) -> _Found:
        reason = ""
        for sentinel in [*self._sentinels]:
            try:
                async with self._connected(self._url.sentinel(sentinel), sentinel) as link:
                    ask = "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._url.name
                    found = await _asked(link, *ask)
            except (LinkLost, ResponseError) as error:
                reason = f"sentinel {sentinel}: {reason_of(error)}"
                continue
            if found:
                self._sentinels.remove(sentinel)
                self._sentinels.insert(0, sentinel)  # the first one that is asked next time
                server = Address(found[0].decode(), int(found[1]))
                self._told_of[server] = sentinel
                return server, ()
            reason = f"sentinel {sentinel} knows no {self._url.name}"
        raise NoLink(reason)

    @asynccontextmanager
    async def link(self, address: Address, asking: tuple[str, ...]) -> AsyncIterator[Link]:
        async with AsyncExitStack() as stack:
            try:
                link = await stack.enter_async_context(
                    self._connected(self._url.server(address), address)
                )
                # It may have become a follower since, and sentinels hear of it late.
                role = (await link.call("ROLE"))[0]
                if role != b"master":
                    raise NoLink(f"{address} is a {role.decode()} now")
            except (LinkLost, ResponseError) as error:
                # Another one may know better: this one may be cut off from the others.
                if self._told_of.get(address) == self._sentinels[0]:
                    self._sentinels.append(self._sentinels.pop(0))
                raise NoLink(reason_of(error)) from error
            yield link


class _Cluster(_Single):
    """Servers that share the slots; each knows who has which."""

    sharded = True

    def __init__(self, url: LogUrl):
        super().__init__(url)
        self._owners: dict[int, Address] = {}  # by slot
        self._moving: set[int] = set()  # slots of which a part may be on another server already
        self._outdated = True
        self._told: Address | None = None  # whose map it is
        self._looking = asyncio.Lock()

    async def find(self, keys: Iterable[str]) -> _Found:
        its = tuple(keys)
        slot = key_slot(its[0].encode())
        async with self._looking:
            if self._outdated:
                await self._look()
        if slot not in self._owners:
            self._outdated = True
            raise NoLink(f"no node of the cluster serves slot {slot}")
        if slot in self._moving:
            return await self._one_of_two(slot, its)
        return self._owners[slot], ()

    @asynccontextmanager
    async def link(self, address: Address, asking: tuple[str, ...]) -> AsyncIterator[Link]:
        connected = self._connected(self._url.server(address), address, asking=bool(asking))
        async with AsyncExitStack() as stack:
            try:
                link = await stack.enter_async_context(connected)
            except LinkLost:
                self._outdated = True
                raise
            # Of one key, the server that had it has said that it is gone. Of several some may be on
            # their way, and an absent key looks like an empty one.
            if len(asking) > 1:
                try:
                    await link.call("EXISTS", *asking)
                except ResponseError as error:
                    raise LinkLost(reason_of(error)) from error
            yield link

    async def _one_of_two(self, slot: int, keys: tuple[str, ...]) -> _Found:
        """Where keys are of a slot that is on its way: they go one by one, so each time anew."""
        owner = self._owners[slot]
        async with self._connected(self._url.server(owner), owner) as link:
            try:
                await link.call("EXISTS", *keys)
            except ResponseError as error:
                self._moving.discard(slot)
                raise LinkLost(reason_of(error)) from error
            except LinkLost as lost:
                if type(lost.__cause__) is AskError:
                    return _sent_to(lost.__cause__, owner), keys
                raise
        return owner, ()

    async def _look(self) -> None:
        """Ask nodes who has which slot, until one answers.

        A node that is cut off, or has left, still answers. So who told last is asked last.
        """
        known = list({*self._owners.values()})
        random.shuffle(known)
        nodes = list(dict.fromkeys((*known, *self._url.addresses)))
        nodes.sort(key=lambda node: node == self._told)
        reason = ""
        for node in nodes:
            try:
                async with self._connected(self._url.server(node), node) as link:
                    ranges = await _asked(link, "CLUSTER", "SLOTS")
            except (LinkLost, ResponseError) as error:
                reason = f"{node}: {reason_of(error)}"
                continue
            self._owners = {}
            for first, last, (host, port, *_), *_ in ranges:
                owner = Address((host or b"").decode() or node.host, int(port))
                self._owners |= dict.fromkeys(range(first, last + 1), owner)
            self._outdated, self._told = False, node
            return
        raise NoLink(f"no node of the cluster answers; {reason}")

    def _redirected(self, at: Address, error: ResponseError) -> None:
        if isinstance(error, MovedError):
            self._owners[error.slot_id] = _sent_to(error, at)
            self._moving.discard(error.slot_id)
        elif isinstance(error, AskError):
            self._moving.add(error.slot_id)
        else:
            self._outdated = True


def _sent_to(error: AskError, by: Address) -> Address:
    """Without a host it is the same one, as a client finds it."""
    return Address(error.host or by.host, error.port)


async def _asked(link: Link, *command: str) -> Any:
    """Others can be asked: one that hangs is not waited for as long as for a reply that counts."""
    await link.send(command)
    return await link.receive_soon(CONNECT_TIMEOUT)

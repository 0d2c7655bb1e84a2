"""A caller of unary gRPC methods that costs a fraction of what the server does.

It speaks as much HTTP/2 as that takes: the same call again and again, some in flight at once on
each connection, and of the answers only whether they are right.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4
PATIENCE = 10.0  # seconds that a call may take
_WIDE = 2**31 - 1 - 65_535  # what a connection's window can grow by


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3) + bytes((kind, flags)) + stream.to_bytes(4) + payload


class Caller(asyncio.Protocol):
    """One connection.

    Args:
        answer: the bytes of the only right one.

    Attributes:
        answered: calls so far.
    """

    def __init__(self, path: str, request: bytes, answer: bytes, in_flight: int) -> None:
        headers = {
            ":path": path, ":authority": "localhost", "te": "trailers",
            "content-type": "application/grpc", "user-agent": "bench",
        }  # fmt: skip
        first = b"".join(b"\x40" + _text(name) + _text(text) for name, text in headers.items())
        # POST over http, then fields that the server remembers from the first call on; the newest
        # one has the number 62.
        later = bytes(0x80 | 62 + at for at in reversed(range(len(headers))))
        self._blocks = [b"\x83\x86" + first, b"\x83\x86" + later]
        self._body = b"\0" + len(request).to_bytes(4) + request
        self._answer = b"\0" + len(answer).to_bytes(4) + answer
        self._in_flight = in_flight
        self._next, self._rest = 1, b""
        self.answered = 0
        self.error = ""
        self.going = False
        self.idle: Callable[[], None] = lambda: None
        self._open = 0

    def connection_made(self, transport: Any) -> None:
        self._transport: asyncio.WriteTransport = transport
        wide = frame(WINDOW_UPDATE, 0, 0, _WIDE.to_bytes(4))
        transport.write(PREFACE + frame(SETTINGS, 0, 0) + wide)

    def go(self) -> None:
        self.going = True
        self._call(self._in_flight)

    def _call(self, count: int) -> None:
        parts = []
        for _ in range(count):
            stream, self._next = self._next, self._next + 2
            block = self._blocks[stream > 1]
            parts.append(frame(HEADERS, END_HEADERS, stream, block))
            parts.append(frame(DATA, END_STREAM, stream, self._body))
        self._open += count
        self._transport.write(b"".join(parts))

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        at, size, ended, back = 0, len(data), 0, b""
        while at + 9 <= size:
            end = at + 9 + int.from_bytes(data[at : at + 3])
            if end > size:
                break
            kind, flags = data[at + 3], data[at + 4]
            if kind == DATA:
                if data[at + 9 : end] != self._answer:
                    self.error = f"another answer: {data[at + 9 : end]!r}"
            elif kind == HEADERS:
                ended += flags & END_STREAM
            elif kind == PING and not flags & ACK:
                back += frame(PING, ACK, 0, data[at + 9 : end])
            elif kind == SETTINGS and not flags & ACK:
                back += frame(SETTINGS, ACK, 0)
            elif kind == GOAWAY or (kind == RST_STREAM and any(data[at + 9 : end])):
                self.error = f"the server has ended a call: {data[at:end]!r}"
            at = end
        self._rest = data[at:]
        self.answered += ended
        self._open -= ended
        if back:
            self._transport.write(back)
        if self.going and ended and not self.error:
            self._call(ended)
        elif not self._open or self.error:
            self.idle()

    def connection_lost(self, error: Exception | None) -> None:
        self.error = self.error or "the server has closed the connection"
        self.idle()


def _text(text: str) -> bytes:
    """Without Huffman coding; short."""
    assert len(text) < 127
    return bytes((len(text),)) + text.encode()


async def connected(
    address: str, path: str, request: bytes, answer: bytes, in_flight: int
) -> Caller:
    host, _, port = address.rpartition(":")
    caller = Caller(path, request, answer, in_flight)
    await asyncio.get_running_loop().create_connection(lambda: caller, host, int(port))
    return caller


def _end(waiting: "asyncio.Future[None]") -> None:
    if not waiting.done():
        waiting.set_result(None)


async def answered(callers: list[Caller], seconds: float) -> int:
    """Calls that all of them together get answered in so long."""
    loop = asyncio.get_running_loop()
    before = sum(caller.answered for caller in callers)
    ends = []
    for caller in callers:
        end = loop.create_future()
        caller.idle = partial(_end, end)
        ends.append(end)
        caller.go()
    await asyncio.sleep(seconds)
    count = sum(caller.answered for caller in callers) - before
    for caller in callers:
        caller.going = False
    await asyncio.wait_for(asyncio.gather(*ends), PATIENCE)
    for caller in callers:
        if caller.error:
            raise RuntimeError(caller.error)
    return count

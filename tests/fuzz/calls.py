"""Calls that anybody may send, and the status codes that the documents allow each of them."""

from __future__ import annotations

import base64
import random
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from .mutate import NASTY, mutate

Code = grpc.StatusCode
Codes = frozenset[Code]

STREAM, PARTITIONS = "orders", 4
SERVICE = "acme.orders.v1.OrderService"
HEALTH, REFLECTION = "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"
AT_LEAST = "factfold-at-least"
POSITION = re.compile(r"([a-z0-9.-]{1,64})/([0-9]+)@([0-9a-f]{16}):([0-9]+)-([0-9]+)")
LARGEST_FACT, LARGEST_MESSAGE = 1 << 20, 4 << 20
LONGEST_REQUEST_ID = 128
SAFE_METADATA = 7_000  # bytes: gRPC begins to refuse at 8 KiB, with names and its own included
HURRY = 5.0  # seconds: with less, a call may well come too late
WORDS = ["Tea", "Größe", "茶", "x", " ", "'", "🫖" * 20]
NUMBERS = [0, 1, 2, 3, 2**31 - 1, 2**53 - 1, 2**53, 2**63 - 1, 2**63, 2**64 - 2, 2**64 - 1]
TIMEOUTS = [-1.0, 0.0, 1e-9, 1e-4, 1e-3, 3e-3, 0.01, 0.05, 0.3, 3600.0, 1e6, 1e9]

OK = frozenset({Code.OK})
INVALID = frozenset({Code.INVALID_ARGUMENT})
NOT_FOUND = frozenset({Code.NOT_FOUND})
PRECONDITION = frozenset({Code.FAILED_PRECONDITION})
REFUSED = frozenset({Code.RESOURCE_EXHAUSTED})


@dataclass(slots=True)
class World:
    """What a caller may have seen so far."""

    contract: ModuleType
    versions: dict[str, int] = field(default_factory=dict)  # by id
    request_ids: list[str] = field(default_factory=list)
    creating: set[str] = field(default_factory=set)  # request ids, also of calls that failed
    tokens: list[str] = field(default_factory=list)
    positions: list[str] = field(default_factory=list)

    def remember(self, dice: random.Random, known: list[str], text: str) -> None:
        """A few hundred are kept: of all times, not the last ones only."""
        if text and len(known) < 300:
            known.append(text)
        elif text:
            known[dice.randrange(len(known))] = text


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    path: str
    messages: tuple[bytes, ...]
    allowed: Codes
    streams: bool = False  # its answers
    metadata: tuple[tuple[str, str | bytes], ...] = ()
    timeout: float | None = 10.0
    compression: grpc.Compression | None = None
    answers: int = 1  # a stream is cancelled after so many
    patience: float | None = None  # seconds after which it is cancelled
    request: Any = None  # if it is one of the service's own, and parses

    def __str__(self) -> str:
        return (
            f"{self.path[:200]} {[message[:300] for message in self.messages]} "
            f"{[(name, value[:300]) for name, value in self.metadata]} timeout={self.timeout} "
            f"answers={self.answers} patience={self.patience}"
        )


# Values.


def text(dice: random.Random) -> str:
    if dice.random() < 0.5:
        return dice.choice(WORDS)
    nasty = dice.choice(NASTY)
    if len(nasty) > 1_000 and dice.random() < 0.9:  # they stay in the log, and in each list
        nasty = nasty[: dice.randint(500, 1_000)]
    return nasty.decode(errors="replace")


def printable(dice: random.Random, good: str) -> str:
    """As metadata may have it."""
    made = mutate(dice, good.encode()).decode("latin-1")[: dice.choice([50, 500, 6_000])]
    return re.sub(r"[^ -~]", "~", made).strip()


def position(dice: random.Random, world: World) -> str:
    """One, or several, or what only looks like it."""
    known = dice.choice(world.positions)
    match dice.randrange(8):
        case 0:
            return ""
        case 1:
            return printable(dice, known)
        case 2:
            return dice.choice(["\u0663".join(known.split("0")), f"{known}\n", f"\0{known}", "ü"])
        case 3:
            return ",".join(dice.choices(world.positions, k=dice.choice([2, 9, 40])))
        case 4 | 5:
            parts = list(POSITION.findall(known)[0])
            odd = [
                ["shipments", "o.-", "a" * 64, "a" * 65],
                ["3", "01", str(PARTITIONS), "9" * 9, "9" * 10, "-1"],
                ["0" * 16, parts[2][::-1], parts[2].upper()],
                ["0", "1", str(2**53), "9" * 16, "9" * 17],
                ["0", "1", str(int(parts[4]) + 1), "9" * 16, "9" * 400],
            ]
            for at in dice.choices(range(5), k=dice.choice([1, 1, 2])):
                parts[at] = dice.choice(odd[at])
            return "{}/{}@{}:{}-{}".format(*parts)
        case _:
            return known


def request_id(dice: random.Random, world: World) -> str:
    match dice.randrange(8):
        case 0:
            return text(dice)
        case 1:
            return "r" * dice.choice([127, 128, 129, 5_000])
        case 2 | 3 if world.request_ids:
            return dice.choice(world.request_ids)
        case 4:
            return ""
        case _:
            return str(uuid.UUID(int=dice.getrandbits(128)))


def id_of(dice: random.Random, world: World) -> str:
    if world.versions and dice.random() < 0.7:
        return dice.choice(list(world.versions))
    return dice.choice([text(dice), "k" * 512, "k" * 513, "_", str(uuid.uuid4())])


# The service's own requests, and what each may be answered. The latter by the contract's comments
# and docs/, never by the code.


def create(dice: random.Random, world: World) -> Message:
    name = text(dice) or dice.choice(["", "named"])
    if dice.random() < 0.002:
        name = "n" * dice.choice([LARGEST_FACT - 500, LARGEST_FACT, 2 << 20, 5 << 20])
    made: Message = world.contract.CreateOrderRequest(request_id=request_id(dice, world), name=name)
    return made


def created(world: World, asked: Any) -> Codes:
    if not asked.name or len(asked.request_id) > LONGEST_REQUEST_ID:
        return INVALID
    size = len(asked.name.encode())
    if asked.request_id in world.creating:  # then it is answered as the first one was
        return OK | {Code.ABORTED} | INVALID
    if asked.request_id:
        world.creating.add(asked.request_id)
    if size > LARGEST_FACT - 1_000:
        return INVALID if size > LARGEST_FACT else OK | INVALID
    return OK


def rename(dice: random.Random, world: World) -> Message:
    key = id_of(dice, world)
    version = world.versions.get(key, 1) if dice.random() < 0.6 else dice.choice(NUMBERS)
    made: Message = world.contract.RenameOrderRequest(
        request_id=request_id(dice, world), id=key, name=text(dice), expected_version=version
    )
    return made


def renamed(world: World, asked: Any) -> Codes:
    if not asked.name or not asked.expected_version or len(asked.request_id) > LONGEST_REQUEST_ID:
        return INVALID
    if asked.id not in world.versions:
        return NOT_FOUND
    return OK | NOT_FOUND | INVALID | {Code.ABORTED}


def get(dice: random.Random, world: World) -> Message:
    made: Message = world.contract.GetOrderRequest(id=id_of(dice, world))
    return made


def got(world: World, asked: Any) -> Codes:
    return OK | NOT_FOUND if asked.id in world.versions else NOT_FOUND


def list_(dice: random.Random, world: World) -> Message:
    size = dice.choice([-(2**31), -1, 0, 1, 2, 3, 5, 50, 1_000, 2**31 - 1])
    if size > 5 and dice.random() < 0.9:
        size = 5  # large pages are slow, for the one who reads them here
    token = dice.choice([*world.tokens[-20:], ""])
    if dice.random() < 0.4:
        token = dice.choice([text(dice), printable(dice, token), f"{token}=", f"/+{token}"])
    elif dice.random() < 0.2:
        token = token_of(text(dice))
    made: Message = world.contract.ListOrdersRequest(page_size=size, page_token=token)
    return made


def token_of(key: str) -> str:
    return base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")


def listed(world: World, asked: Any) -> Codes:
    token = asked.page_token
    try:
        key = base64.urlsafe_b64decode(token.encode() + b"=" * (-len(token) % 4)).decode()
    except ValueError:
        return INVALID
    return INVALID if asked.page_size < 0 or token_of(key) != token else OK


def watch(dice: random.Random, world: World) -> Message:
    made: Message = world.contract.WatchOrdersRequest(after=position(dice, world))
    return made


def watched(world: World, asked: Any) -> Codes:
    return reached(world, asked.after) or OK | PRECONDITION


def is_position(text: str) -> bool:
    match = POSITION.fullmatch(text)
    return match is not None and len(match[2]) <= 9 and max(len(match[4]), len(match[5])) <= 16


def reached(world: World, token: str) -> Codes:
    """What there must be for these positions; nothing if the call may succeed."""
    if not all(is_position(part) for part in token.split(",") if part):
        return INVALID
    found: Codes = frozenset()
    (present,) = {at[3] for at in map(POSITION.match, world.positions) if at}  # one for all
    for part in filter(None, token.split(",")):
        stream, partition, epoch, _, _ = POSITION.findall(part)[0]
        if stream != STREAM:
            found |= PRECONDITION | OK  # a watch looks at its own stream alone
        elif int(partition) >= PARTITIONS:
            found |= INVALID
        elif epoch != present:
            found |= PRECONDITION
    return found


Make = Callable[[random.Random, World], Message]
Allow = Callable[[World, Any], Codes]
OWN: dict[str, tuple[Make, Allow]] = {
    "CreateOrder": (create, created),
    "RenameOrder": (rename, renamed),
    "GetOrder": (get, got),
    "ListOrders": (list_, listed),
    "WatchOrders": (watch, watched),
}


def own(dice: random.Random, world: World) -> Call:
    name = dice.choices(list(OWN), [4, 5, 4, 4, 3])[0]
    make, allow = OWN[name]
    message = make(dice, world)
    data = message.SerializeToString()
    if dice.random() < 0.3:
        data = mutate(dice, data)
    try:
        asked: Any = type(message).FromString(data)
        allowed = allow(world, asked)
    except DecodeError:
        asked, allowed = None, INVALID
    if len(data) > LARGEST_MESSAGE:
        asked, allowed = None, REFUSED
    return Call(
        path=f"/{SERVICE}/{name}", messages=(data,), allowed=allowed, request=asked,
        streams=name == "WatchOrders",
    )  # fmt: skip


# What each service has besides.


def health(dice: random.Random, world: World) -> Call:
    name = dice.choice(["", SERVICE, HEALTH, text(dice)])
    data = health_pb2.HealthCheckRequest(service=name).SerializeToString()
    if dice.random() < 0.5:
        data = mutate(dice, data)
    streams = dice.random() < 0.3
    try:
        asked = health_pb2.HealthCheckRequest.FromString(data)
        allowed = OK if streams or asked.service in ("", SERVICE) else NOT_FOUND
    except DecodeError:
        allowed = INVALID
    path = f"/{HEALTH}/{'Watch' if streams else 'Check'}"
    return Call(path=path, messages=(data,), allowed=allowed, streams=streams)


def reflection(dice: random.Random, world: World) -> Call:
    names = [SERVICE, f"{SERVICE}.CreateOrder", "acme/orders/v1/contract.proto", "acme.orders.v1"]
    names += ["google.protobuf.MessageOptions", "acme.orders.v1.Order", text(dice)]
    messages: list[bytes] = []
    allowed = OK
    while len(messages) < dice.choice([1, 1, 1, 2, 5]) and allowed is OK:
        request = reflection_pb2.ServerReflectionRequest(host=dice.choice(["", text(dice)]))
        name = dice.choice(names)
        match dice.randrange(6):
            case 0:
                request.file_by_filename = name
            case 1:
                request.file_containing_symbol = name
            case 2:
                extension = request.file_containing_extension
                extension.containing_type = name
                extension.extension_number = dice.choice([0, -1, 50_000, 2**31 - 1, -(2**31)])
            case 3:
                request.all_extension_numbers_of_type = name
            case 4:
                request.list_services = name
        data = request.SerializeToString()
        messages.append(mutate(dice, data) if dice.random() < 0.4 else data)
        try:
            request.ParseFromString(messages[-1])
        except DecodeError:
            allowed = INVALID  # the last one: gRPC takes it ill to be refused while it still sends
    path = f"/{REFLECTION}/ServerReflectionInfo"
    return Call(
        path=path, messages=tuple(messages), allowed=allowed, streams=True,
        answers=len(messages) + 1,
    )  # fmt: skip


def nowhere(dice: random.Random, world: World) -> Call:
    known = [f"/{SERVICE}/{name}" for name in OWN]
    known += [f"/{HEALTH}/Check", f"/{HEALTH}/Watch", f"/{REFLECTION}/ServerReflectionInfo"]
    path = "/" + printable(dice, dice.choice(known))[1:]
    if path in known:
        path += "x"
    data = mutate(dice, b"\x0a\x03abc")
    return Call(path=path, messages=(data,), allowed=frozenset({Code.UNIMPLEMENTED}))


# Around them.


def metadata(dice: random.Random, world: World) -> list[tuple[str, str | bytes]]:
    trace = f"00-{dice.getrandbits(128):032x}-{dice.getrandbits(64):016x}-0{dice.randrange(4)}"
    made: list[tuple[str, str | bytes]] = []
    for _ in range(dice.choice([1, 1, 2, 4])):
        match dice.randrange(7):
            case 0 | 6:
                at_least = re.sub(r"[^ -~]", "~", position(dice, world)).strip()
                made.append((AT_LEAST, at_least))
            case 1:
                zeros = f"00-{'0' * 32}-{'0' * 16}-01"
                odd = [zeros, trace.upper(), f"ff{trace[2:]}", f"{trace}-more", f"01{trace[2:]}"]
                made.append(
                    ("traceparent", dice.choice([trace, trace, printable(dice, trace), *odd]))
                )
            case 2:
                states = ["a=b", "a=b,a=b", "=", ",", "a" * 300 + "=b", "t@v=1", "k=" + "v" * 257]
                states += [",".join(f"k{n}=v" for n in range(40)), printable(dice, "a=b,c=d")]
                made += [("traceparent", trace), ("tracestate", dice.choice(states))]
            case 3:
                made.append(
                    ("baggage", dice.choice(["a=b;c", "%00=%ff", printable(dice, "a=b,c=d")]))
                )
            case 4:
                names = ["x-bin", "grpc-trace-bin", "grpc-tags-bin", "traceparent-bin", "0.-_-bin"]
                made.append(
                    (dice.choice(names), mutate(dice, b"\0\0abc")[: dice.choice([9, 5_000])])
                )
            case 5:
                names = [
                    "authorization",
                    "x",
                    "factfold-position",
                    "factfold",
                    "cookie",
                    "host",
                    "_",
                ]
                size = dice.choice([0, 1, 500, 6_000, 12_000, 30_000])
                value = "v" * size if dice.random() < 0.2 else printable(dice, "Bearer x")
                made.append((dice.choice(names), value))
    return made


def sent(dice: random.Random, world: World) -> Call:
    """Any of them."""
    make = dice.choices([own, health, reflection, nowhere], [16, 2, 1, 1])[0]
    call = make(dice, world)
    allowed = call.allowed
    around = metadata(dice, world) if dice.random() < 0.4 else []
    asked = ",".join(str(value) for name, value in around if name == AT_LEAST)
    if call.request is not None and asked:
        # Before a handler sees it.
        allowed = allowed | {Code.UNAVAILABLE} | PRECONDITION
        if refusal := reached(world, asked) - OK:
            # One after the other, until the first that is refused, or is late.
            allowed = refusal | {Code.UNAVAILABLE} | PRECONDITION
        if not all(is_position(part) for part in asked.split(",") if part):
            allowed = INVALID
    if len(call.path) + sum(len(name) + len(value) + 32 for name, value in around) > SAFE_METADATA:
        allowed |= REFUSED
    timeout = dice.choices([None, 10.0, dice.choice(TIMEOUTS)], [4, 4, 2])[0]
    if timeout is not None and timeout < HURRY:
        allowed |= {Code.DEADLINE_EXCEEDED}
    patience = dice.uniform(0, 0.02) if dice.random() < 0.05 else None
    if call.streams:
        patience = dice.choice([0.001, 0.03, 0.1])
        call = replace(call, answers=max(call.answers, dice.choice([1, 1, 2, 40])))
    if patience is not None:
        allowed |= {Code.CANCELLED}
    squeezed = grpc.Compression.Gzip if dice.random() < 0.03 else None
    return replace(
        call, allowed=allowed, metadata=tuple(around), timeout=timeout, patience=patience,
        compression=squeezed,
    )  # fmt: skip

"""Every error of the chassis. Each message says what happened, to what, and what to do next.

StartError            the process ends: one line on stderr, exit code 2
  SettingsError         an environment variable
    AddressRefused        FACTFOLD_LISTEN or FACTFOLD_HEALTH_LISTEN cannot be had
  WiringError           the contract and the code do not fit
    NotInStubs            the code uses a name that the contract's stubs do not have
ChassisError          a call ends: `code` and `message` are what the caller sees
  InvalidRequest        INVALID_ARGUMENT, with field violations
  NotFound              NOT_FOUND
  FailedPrecondition    FAILED_PRECONDITION: repeating the call changes nothing
    LogReplaced           the log is not the one that was read before
    OtherEpoch            a position of another epoch
    PositionLost          a position that a roll-back took away
  VersionConflict       ABORTED, nothing was appended
  LogFull               RESOURCE_EXHAUSTED, nothing was appended
  QueueFull             RESOURCE_EXHAUSTED, nothing was appended
  DeadlineExceeded      DEADLINE_EXCEEDED: the default one, of a call that brought none
  Unavailable           UNAVAILABLE: the call may succeed later
    LogUnreachable        known not to be appended
    OutcomeUnknown        appended or not
    PositionNotReached    the view is behind
    NotReady              the service is not serving yet, or no more
    Draining              a watch ends, and may resume
"""

from typing import ClassVar

import grpc


class StartError(Exception):
    exit_code: ClassVar = 2


class SettingsError(StartError):
    pass


class AddressRefused(SettingsError):
    def __init__(self, listen: str, setting: str = "FACTFOLD_LISTEN") -> None:
        super().__init__(f"{setting}: {listen} cannot be listened on; is another process there?")


class WiringError(StartError):
    pass


class NotInStubs(WiringError, AttributeError):
    """As of a module: who asks whether it has the name gets an answer."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"the contract's stubs have no {name}: correct it, or if protos/ has it, "
            "make the stubs anew: `python hatch_build.py`"
        )


class ChassisError(Exception):
    """`message` is one line; `position`, if not empty, goes into the trailer factfold-position."""

    code: ClassVar[grpc.StatusCode] = grpc.StatusCode.INTERNAL

    def __init__(self, message: str, *, position: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.position = position


class InvalidRequest(ChassisError):
    """A field of the request breaks a rule; `more` are further (field, description) pairs."""

    code = grpc.StatusCode.INVALID_ARGUMENT

    def __init__(self, field: str, description: str, *more: tuple[str, str]) -> None:
        self.violations: list[tuple[str, str]] = [(field, description), *more]
        super().__init__("; ".join(f"{name}: {rule}" for name, rule in self.violations))


class NotFound(ChassisError):
    """There is no `what` (such as "order") with the key `key`."""

    code = grpc.StatusCode.NOT_FOUND

    def __init__(self, what: str, key: str) -> None:
        super().__init__(f"there is no {what} {_short(key)!r}")


class FailedPrecondition(ChassisError):
    code = grpc.StatusCode.FAILED_PRECONDITION


class LogReplaced(FailedPrecondition):
    def __init__(self, stream: str, reason: str) -> None:
        super().__init__(
            f"the log of stream {stream} was lost or replaced ({reason}); restore it from a "
            f"backup, or begin anew without it: `factfold stream recreate {stream}`; "
            "then restart the service"
        )


class OtherEpoch(FailedPrecondition):
    def __init__(self, asked: str, present: str) -> None:
        super().__init__(
            f"the position {asked} belongs to another epoch of the log (now {present}); "
            "drop it and read again",
            position=present,
        )


class PositionLost(FailedPrecondition):
    def __init__(self, asked: str, present: str) -> None:
        super().__init__(
            f"the position {asked} is not in the log, which was rolled back (now {present}); "
            "drop it and read again",
            position=present,
        )


class VersionConflict(ChassisError):
    """`key` is at version `actual`, not `expected`."""

    code = grpc.StatusCode.ABORTED

    def __init__(self, stream: str, key: str, expected: int, actual: int) -> None:
        super().__init__(
            f"{_short(key)!r} of stream {stream} is at version {actual}, not {expected}; "
            "nothing was appended; read it again and decide anew"
        )
        self.stream = stream
        self.key = key
        self.expected = expected
        self.actual = actual


class LogFull(ChassisError):
    code = grpc.StatusCode.RESOURCE_EXHAUSTED

    def __init__(self, stream: str) -> None:
        super().__init__(
            f"the log of stream {stream} is out of memory; nothing was appended; "
            "retry once Redis has room"
        )


class QueueFull(ChassisError):
    code = grpc.StatusCode.RESOURCE_EXHAUSTED

    def __init__(self, stream: str, waiting: int) -> None:
        super().__init__(
            f"{waiting} facts wait to be appended to stream {stream}; nothing was appended; "
            "retry later, with fewer calls at once"
        )


class DeadlineExceeded(ChassisError):
    code = grpc.StatusCode.DEADLINE_EXCEEDED

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"no answer within {seconds:g} s, the default deadline; what was appended is unknown: "
            "repeat the command with the same request_id, or send a deadline"
        )


class Unavailable(ChassisError):
    code = grpc.StatusCode.UNAVAILABLE


class LogUnreachable(Unavailable):
    def __init__(self, stream: str, reason: str) -> None:
        super().__init__(
            f"the log of stream {stream} is unreachable ({reason}); nothing was appended; retry"
        )


class OutcomeUnknown(Unavailable):
    def __init__(self, stream: str, reason: str) -> None:
        super().__init__(
            f"the outcome of an append to stream {stream} is unknown ({reason}); "
            "repeat the command with the same request_id"
        )


class PositionNotReached(Unavailable):
    def __init__(self, asked: str, present: str) -> None:
        super().__init__(
            f"the position {asked} was not reached in time (now {present or 'at the start'}); "
            "retry",
            position=present,
        )


class NotReady(Unavailable):
    def __init__(self, reason: str) -> None:
        super().__init__(f"not ready: {reason}; retry later")


class Draining(Unavailable):
    def __init__(self, position: str) -> None:
        super().__init__(
            "the service is shutting down; watch again from factfold-position", position=position
        )


def _short(key: str) -> str:
    return key if len(key) <= 80 else f"{key[:79]}…"

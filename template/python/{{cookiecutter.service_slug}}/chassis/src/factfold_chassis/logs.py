"""Logs on stderr: one JSON object a line, or a line for a person on a terminal.

Use the standard `logging` module with `extra={...}`; the fields appear beside the message.
"""

import json
import logging
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import TextIO

from opentelemetry.trace import get_current_span

from factfold_chassis.settings import Settings

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def configure(
    settings: Settings, stream: TextIO | None = None, *, process: int | None = None
) -> None:
    """Replace the root logger's handlers by one that writes to `stream`, by default stderr.

    `process` says in each line which one of several it is.
    """
    stream = stream or sys.stderr
    text = settings.log_format == "text" or (settings.log_format == "auto" and stream.isatty())
    handler = logging.StreamHandler(stream)
    always = {} if process is None else {"process": process}
    handler.setFormatter(_Formatter(_text if text else _json, always, settings.secrets))
    logging.root.handlers[:] = [handler]
    logging.root.setLevel(settings.log_level)


Line = Callable[[logging.LogRecord, dict[str, object], str], str]


class _Formatter(logging.Formatter):
    """`line` makes the text from a record, its extras and the stack of its exception.

    Each record also has the extras `always`.
    """

    def __init__(self, line: Line, always: dict[str, int], secrets: Iterable[str]):
        super().__init__()
        self._line = line
        self._always = always
        # As they are and as JSON has them. Shorter ones would also hide what is no secret.
        forms = {form for s in secrets for form in (s, _dump(s)[1:-1]) if len(s) >= 4}
        self._secrets = sorted(forms, key=len, reverse=True)

    def format(self, record: logging.LogRecord) -> str:
        extras: dict[str, object] = {**self._always}
        extras |= {name: value for name, value in vars(record).items() if name not in _STANDARD}
        stack = self.formatException(record.exc_info) if record.exc_info else ""
        line = self._line(record, extras, stack)
        for secret in self._secrets:
            line = line.replace(secret, "***")
        return line


def _json(record: logging.LogRecord, extras: dict[str, object], stack: str) -> str:
    """timestamp (RFC 3339, UTC), level, message, logger, trace_id, span_id, then the extras."""
    fields: dict[str, object] = {
        "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname,
        "message": record.getMessage(),
        "logger": record.name,
    }
    context = get_current_span().get_span_context()
    if context.is_valid:
        fields["trace_id"] = f"{context.trace_id:032x}"
        fields["span_id"] = f"{context.span_id:016x}"
    if stack:
        fields["exception"] = stack
    return _dump(fields | extras | fields)  # an extra replaces nothing


def _text(record: logging.LogRecord, extras: dict[str, object], stack: str) -> str:
    """`12:00:00.000 INFO  message field=value`, then the stack of an exception."""
    time = datetime.fromtimestamp(record.created).strftime("%H:%M:%S.%f")[:-3]
    line = f"{time} {record.levelname:<7} {record.getMessage()}"
    line = " ".join([line, *(f"{name}={value}" for name, value in extras.items())])
    line = " ".join(line.splitlines())  # what others wrote into it must not look like a line
    return f"{line}\n{stack}" if stack else line


def _dump(value: object) -> str:
    return json.dumps(value, default=str, ensure_ascii=False)

"""Logs on stderr: one JSON object a line, or a line for a person on a terminal.

Use the standard `logging` module with `extra={...}`; the fields appear beside the message.
"""

import json
import logging
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TextIO

from opentelemetry.trace import get_current_span

from factfold_chassis.settings import Settings

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def configure(settings: Settings, stream: TextIO | None = None) -> None:
    """Replace the root logger's handlers by one that writes to `stream`, by default stderr."""
    stream = stream or sys.stderr
    text = settings.log_format == "text" or (settings.log_format == "auto" and stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter((TextFormatter if text else JsonFormatter)(settings.secrets))
    logging.root.handlers[:] = [handler]
    logging.root.setLevel(settings.log_level)


class _Formatter(logging.Formatter):
    def __init__(self, secrets: Iterable[str] = ()) -> None:
        super().__init__()
        # Shorter texts would also hide what is no secret.
        forms = {form for s in secrets for form in (s, json.dumps(s)[1:-1]) if len(s) >= 4}
        self._secrets = sorted(forms, key=len, reverse=True)

    def clean(self, line: str) -> str:
        for secret in self._secrets:
            line = line.replace(secret, "***")
        return line

    def extras(self, record: logging.LogRecord) -> dict[str, object]:
        return {name: value for name, value in vars(record).items() if name not in _STANDARD}


class JsonFormatter(_Formatter):
    """timestamp (RFC 3339, UTC), level, message, logger, trace_id, span_id, then the extras."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, object] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(
                timespec="milliseconds"
            ),
            "level": record.levelname,
            "message": record.getMessage(),
            "logger": record.name,
        }
        context = get_current_span().get_span_context()
        if context.is_valid:
            fields["trace_id"] = f"{context.trace_id:032x}"
            fields["span_id"] = f"{context.span_id:016x}"
        for name, value in self.extras(record).items():
            fields.setdefault(name, value)
        if record.exc_info:
            fields.setdefault("exception", self.formatException(record.exc_info))
        return self.clean(json.dumps(fields, default=str, ensure_ascii=False))


class TextFormatter(_Formatter):
    """`12:00:00.000 INFO  message field=value`, then the stack of an exception."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created).strftime("%H:%M:%S.%f")[:-3]
        line = f"{time} {record.levelname:<7} {record.getMessage()}"
        fields = " ".join(f"{name}={value}" for name, value in self.extras(record).items())
        if fields:
            line = f"{line} {fields}"
        if record.exc_info:
            line = f"{line}\n{self.formatException(record.exc_info)}"
        return self.clean(line)

"""Logs: what a program reads, what a person reads, and what nobody may read."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
from opentelemetry import context as otel_context
from opentelemetry.trace import NonRecordingSpan, SpanContext, set_span_in_context

from factfold_chassis.logs import configure
from factfold_chassis.settings import Settings

URL = "redis://me:s%40c%22ret@127.0.0.1:6379/0"


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    handlers, level = list(logging.root.handlers), logging.root.level
    yield
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


def test_json_has_the_standard_fields_and_the_extras() -> None:
    out = io.StringIO()
    configure(Settings(log_format="json"), out)
    span = NonRecordingSpan(SpanContext(0xAB, 0xCD, is_remote=False))
    token = otel_context.attach(set_span_in_context(span))
    logging.getLogger("acme").info("placed %s", "it", extra={"key": "ö-1", "level": "no"})
    otel_context.detach(token)
    line = json.loads(out.getvalue())
    assert line.pop("timestamp").endswith("+00:00")
    assert line == {
        "level": "INFO",
        "message": "placed it",
        "logger": "acme",
        "trace_id": f"{0xAB:032x}",
        "span_id": f"{0xCD:016x}",
        "key": "ö-1",
    }


def test_auto_is_json_where_nobody_watches() -> None:
    out = io.StringIO()
    configure(Settings(), out)
    logging.getLogger().warning("a\nb")
    assert json.loads(out.getvalue())["message"] == "a\nb"
    assert out.getvalue().count("\n") == 1


def test_an_exception_keeps_its_stack() -> None:
    out = io.StringIO()
    configure(Settings(log_format="json"), out)
    try:
        raise KeyError("k")
    except KeyError:
        logging.getLogger().exception("failed")
    assert "KeyError: 'k'" in json.loads(out.getvalue())["exception"]


def test_text_is_one_readable_line() -> None:
    out = io.StringIO()
    configure(Settings(log_format="text", log_level="WARNING"), out)
    logging.getLogger().info("too quiet")
    logging.getLogger().warning("serving", extra={"address": "127.0.0.1:1"})
    assert out.getvalue().split(" ", 1)[1] == "WARNING serving address=127.0.0.1:1\n"


@pytest.mark.parametrize("form", ["json", "text"])
def test_one_of_several_processes_says_which_one_it_is(form: str) -> None:
    out = io.StringIO()
    configure(Settings(log_format=form), out, process=2)
    logging.getLogger().warning("serving", extra={"address": "127.0.0.1:1"})
    if form == "json":
        assert json.loads(out.getvalue())["process"] == 2
    else:
        assert out.getvalue().endswith("serving process=2 address=127.0.0.1:1\n")


def test_no_line_of_text_is_made_by_what_was_sent_in() -> None:
    out = io.StringIO()
    configure(Settings(log_format="text"), out)
    logging.getLogger().error("refused: %s", "no\n12:00:00.000 INFO    serving")
    assert out.getvalue().endswith("ERROR   refused: no 12:00:00.000 INFO    serving\n")


@pytest.mark.parametrize("form", ["json", "text"])
def test_a_password_never_appears(form: str) -> None:
    out = io.StringIO()
    settings = Settings(log_format=form, redis_url=URL)
    configure(settings, out)
    logging.getLogger().error("cannot reach %s", URL, extra={"password": 's@c"ret', "s": settings})
    assert "ret" not in out.getvalue()
    assert "***" in out.getvalue()

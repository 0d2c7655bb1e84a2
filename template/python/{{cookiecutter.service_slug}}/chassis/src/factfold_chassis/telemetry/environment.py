"""Whether anything is to be exported; apart from `export`, so that asking imports no SDK."""

from __future__ import annotations

import os
from typing import Literal

from factfold_chassis.errors import SettingsError


def asked(signal: Literal["TRACES", "METRICS"]) -> list[str]:
    """The exporters asked for by `OTEL_<signal>_EXPORTER`, or by an OTLP endpoint.

    Raises:
        SettingsError: an exporter this chassis does not have.
    """
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return []
    variable = f"OTEL_{signal}_EXPORTER"
    text = os.environ.get(variable, "")
    if not text:
        endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")
        return ["otlp"] if any(os.environ.get(name) for name in endpoints) else []
    chosen = [name.strip() for name in text.split(",")]
    for name in chosen:
        if name not in ("otlp", "console", "none"):
            raise SettingsError(f"{variable} is {text!r}: write otlp, console or none")
    return [name for name in chosen if name != "none"]

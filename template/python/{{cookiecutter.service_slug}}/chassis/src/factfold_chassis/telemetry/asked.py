"""What the standard `OTEL_*` variables ask for."""

import os
from typing import Literal

from factfold_chassis.errors import SettingsError


def asked(signal: Literal["TRACES", "METRICS"]) -> bool:
    """Whether `OTEL_<signal>_EXPORTER` or an OTLP endpoint asks for it."""
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    otlp = "OTEL_EXPORTER_OTLP"
    endpoint = _first(f"{otlp}_{signal}_ENDPOINT", f"{otlp}_ENDPOINT")
    exporter = _first(f"OTEL_{signal}_EXPORTER") or ("otlp" if endpoint else "none")
    protocol = _first(f"{otlp}_{signal}_PROTOCOL", f"{otlp}_PROTOCOL") or "grpc"
    if exporter not in ("otlp", "none"):
        raise SettingsError(f"OTEL_{signal}_EXPORTER is {exporter!r}: write otlp or none")
    if exporter == "otlp" and protocol != "grpc":
        raise SettingsError(f"the OTLP protocol {protocol!r} is not spoken here: write grpc")
    return exporter == "otlp"


def _first(*names: str) -> str:
    return next((text for name in names if (text := os.environ.get(name))), "")

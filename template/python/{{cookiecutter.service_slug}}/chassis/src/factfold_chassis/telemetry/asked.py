"""What the standard `OTEL_*` variables ask for."""

import os
from typing import Literal

from factfold_chassis.errors import SettingsError

Exporter = Literal["otlp", "prometheus"]
_KNOWN: dict[str, dict[str, Exporter | None]] = {
    "TRACES": {"otlp": "otlp", "none": None},
    "METRICS": {"otlp": "otlp", "prometheus": "prometheus", "none": None},
}


def asked(signal: Literal["TRACES", "METRICS"]) -> Exporter | None:
    """The exporter that `OTEL_<signal>_EXPORTER` or an OTLP endpoint asks for.

    Raises:
        SettingsError: one that is not known, or a protocol that is not.
    """
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    otlp = "OTEL_EXPORTER_OTLP"
    endpoint = _first(f"{otlp}_{signal}_ENDPOINT", f"{otlp}_ENDPOINT")
    name = _first(f"OTEL_{signal}_EXPORTER") or ("otlp" if endpoint else "none")
    protocol = _first(f"{otlp}_{signal}_PROTOCOL", f"{otlp}_PROTOCOL") or "grpc"
    known = _KNOWN[signal]
    if name not in known:
        *names, last = known
        raise SettingsError(
            f"OTEL_{signal}_EXPORTER is {name!r}: write {', '.join(names)} or {last}"
        )
    if name == "otlp" and protocol != "grpc":
        raise SettingsError(f"the OTLP protocol {protocol!r} is not spoken here: write grpc")
    return known[name]


def _first(*names: str) -> str:
    return next((text for name in names if (text := os.environ.get(name))), "")

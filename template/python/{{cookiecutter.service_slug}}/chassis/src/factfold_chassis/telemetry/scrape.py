"""Metrics for Prometheus, which fetches them over HTTP."""

import logging
import os
from typing import Any

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from prometheus_client import CollectorRegistry, start_http_server

from factfold_chassis.errors import SettingsError

log = logging.getLogger("factfold.telemetry")


class Scraped(PrometheusMetricReader):
    """Answers at `/metrics` until it is shut down.

    Raises:
        OSError: the address cannot be listened on.
    """

    def __init__(self, host: str, port: int) -> None:
        registry = CollectorRegistry()
        super().__init__(registry=registry)
        self._server, _ = start_http_server(port, host, registry)
        address = f"{host}:{self._server.server_port}"
        log.info("metrics for Prometheus", extra={"address": address})

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        self._server.shutdown()
        self._server.server_close()
        super().shutdown(timeout_millis, **kwargs)


def scraped(process: int | None) -> Scraped | None:
    """At `OTEL_EXPORTER_PROMETHEUS_HOST` and `_PORT`; None, and a line in the log, if that fails.

    Each of several processes has metrics of its own, and the port after that of the one before.

    Raises:
        SettingsError: a port that is none.
    """
    host = os.environ.get("OTEL_EXPORTER_PROMETHEUS_HOST") or "localhost"
    text = os.environ.get("OTEL_EXPORTER_PROMETHEUS_PORT") or "9464"
    try:
        port = int(text)
        if port:  # 0 takes a free one
            port += (process or 1) - 1
        if not 0 <= port <= 65535:
            raise ValueError
    except ValueError:
        raise SettingsError(
            f"OTEL_EXPORTER_PROMETHEUS_PORT is {text!r}: it must be a port, such as 9464"
        ) from None
    try:
        return Scraped(host, port)
    except OSError as error:
        log.error(
            "there are no metrics, as OTEL_EXPORTER_PROMETHEUS_HOST and _PORT cannot be listened "
            "on; is another process there?",
            extra={"address": f"{host}:{port}", "why": error.strerror},
        )
        return None

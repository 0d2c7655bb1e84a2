"""`OTEL_METRICS_EXPORTER=prometheus`: a service as a process, scraped over HTTP."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families
from test_processes import ALONE, children, eventually
from test_service import CODERS, LIGHT, Lamp, Process

from factfold_chassis.errors import SettingsError
from factfold_chassis.telemetry import Telemetry
from factfold_chassis.testing import redis_server as servers

Launch = Callable[..., Process]
Series = dict[str, list[tuple[dict[str, str], float]]]


@pytest.fixture
def launch(tmp_path: Path, server: servers.RedisServer) -> Iterator[Launch]:
    started: list[Process] = []

    def start(**given: str) -> Process:
        environment = {
            "FACTFOLD_REDIS_URL": server.url,
            "OTEL_METRICS_EXPORTER": "prometheus",
            "OTEL_EXPORTER_PROMETHEUS_PORT": "0",
        }
        started.append(Process(tmp_path, **environment | given))
        return started[-1]

    yield start
    for each in started:
        each.process.terminate()
        each.process.wait(15)
        assert not children(each)


def scrape(address: str) -> Series:
    """The labels and the value of each sample, by its name."""
    found: Series = {}
    with urlopen(f"http://{address}/metrics", timeout=5) as answer:
        for family in text_string_to_metric_families(answer.read().decode()):
            for sample in family.samples:
                found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def call(address: str, path: str = LIGHT, id: str = "a") -> grpc.StatusCode:
    with grpc.insecure_channel(address, options=ALONE) as channel:
        try:
            channel.unary_unary(path, *CODERS)(Lamp(id=id), timeout=5)
        except grpc.RpcError as error:
            code: grpc.StatusCode = error.code()
            return code
    return grpc.StatusCode.OK


def of(labels: dict[str, str]) -> dict[str, str]:
    """Labels that say something, without those of which library counts."""
    return {
        name: value
        for name, value in labels.items()
        if value and not name.startswith("otel_scope_")
    }


def test_what_operators_look_at_is_there(launch: Launch) -> None:
    process = launch(OTEL_SERVICE_NAME="desk-lamps")
    where = process.says("metrics for Prometheus")["address"]
    assert where.startswith("localhost:")
    address = process.says("serving")["address"]
    assert call(address, id="echo a") is grpc.StatusCode.OK
    eventually(lambda: "messaging_process_duration_seconds_count" in scrape(where))
    found = scrape(where)
    (calls,) = found["rpc_server_call_duration_seconds_count"]
    assert calls[0]["rpc_method"] == "acme.lamps.v1.LampService/LightLamp"
    assert (calls[0]["rpc_response_status_code"], calls[1]) == ("OK", 1)
    assert "messaging_client_operation_duration_seconds_count" in found
    for kind, name in (("view", "lamps"), ("reaction", "follow")):
        lags = found[f"factfold_{kind}_lag"]
        assert {labels[f"factfold_{kind}_name"] for labels, _ in lags} == {name}
        assert {labels["messaging_destination_partition_id"] for labels, _ in lags} == {"0", "1"}
    assert found["factfold_trace_dropped_total"][0][1] == 0
    begun = {
        "factfold_log_alarms": [{}, {"factfold_view_name": "lamps"}],
        "factfold_view_errors": [
            {"factfold_view_name": "lamps", "messaging_destination_name": "lamps"}
        ],
        "factfold_reaction_errors": [{"factfold_reaction_name": "follow"}],
        "factfold_reaction_given_up": [{"factfold_reaction_name": "follow"}],
    }
    for counter, wanted in begun.items():
        samples = found[f"{counter}_total"]
        assert [of(labels) for labels, _ in samples] == wanted, counter
        assert {value for _, value in samples} == {0}
    (target,) = found["target_info"]
    assert target[0]["service_name"] == "desk-lamps"


def test_callers_cannot_add_series(launch: Launch) -> None:
    """Neither paths nor metadata nor keys of theirs become labels."""
    process = launch()
    where = process.says("metrics for Prometheus")["address"]
    address = process.says("serving")["address"]

    def answered(lamps: int) -> bool:
        counts = scrape(where).get("messaging_process_duration_seconds_count", [])
        return sum(value for _, value in counts) == lamps

    def tried(names: range) -> int:
        for at in names:
            assert call(address, f"/some.Service/Method{at}") is grpc.StatusCode.UNIMPLEMENTED
            assert call(address, id=f"lamp {at}") is grpc.StatusCode.OK
        eventually(lambda: answered(names.stop))
        return sum(map(len, scrape(where).values()))

    before = tried(range(20))
    assert tried(range(20, 60)) == before


def test_a_port_that_is_taken_costs_the_metrics_alone(launch: Launch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        process = launch(
            OTEL_EXPORTER_PROMETHEUS_HOST="127.0.0.1", OTEL_EXPORTER_PROMETHEUS_PORT=port
        )
        line = process.says(
            "there are no metrics, as OTEL_EXPORTER_PROMETHEUS_HOST and _PORT cannot be listened "
            "on; is another process there?"
        )
        assert line["address"] == f"127.0.0.1:{port}"
        assert call(process.says("serving")["address"]) is grpc.StatusCode.OK


def test_each_of_several_processes_has_a_port(launch: Launch) -> None:
    port = free_ports(2)
    process = launch(
        FACTFOLD_PROCESSES="2",
        OTEL_EXPORTER_PROMETHEUS_HOST="127.0.0.1",
        OTEL_EXPORTER_PROMETHEUS_PORT=str(port),
    )
    address = {process.says("serving")["address"] for _ in range(2)}.pop()
    for _ in range(30):
        assert call(address) is grpc.StatusCode.OK
    found = [scrape(f"127.0.0.1:{port + at}") for at in range(2)]
    assert sum(each["rpc_server_call_duration_seconds_count"][0][1] for each in found) == 30
    instances = {each["target_info"][0][0]["service_instance_id"][-2:] for each in found}
    assert instances == {"-1", "-2"}


def free_ports(count: int) -> int:
    """The first of `count` ports in a row that nobody has."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as first:
            port = int(first.getsockname()[1])
        try:
            for at in range(port, port + count):
                socket.create_server(("127.0.0.1", at)).close()
        except OSError:
            continue
        return port


def test_it_ends_with_the_service(launch: Launch) -> None:
    process = launch()
    where = process.says("metrics for Prometheus")["address"]
    process.says("serving")
    process.process.terminate()
    assert process.ends() == 0
    with pytest.raises(URLError):
        scrape(where)


@pytest.mark.parametrize("port", ["http", "-1", "70000"])
def test_a_port_that_is_none_is_one_line(monkeypatch: pytest.MonkeyPatch, port: str) -> None:
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "prometheus")
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_PORT", port)
    with pytest.raises(SettingsError) as refusal:
        Telemetry.from_environment("orders")
    assert str(refusal.value) == (
        f"OTEL_EXPORTER_PROMETHEUS_PORT is {port!r}: it must be a port, such as 9464"
    )


@pytest.mark.parametrize(
    ("asked", "imported"),
    [
        ({}, set()),
        ({"OTEL_METRICS_EXPORTER": "prometheus"}, {"prometheus_client"}),
        ({"OTEL_METRICS_EXPORTER": "otlp"}, {"opentelemetry.exporter.otlp"}),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, {"opentelemetry.exporter.otlp"}),
    ],
)
def test_only_who_asks_waits_for_the_import(asked: dict[str, str], imported: set[str]) -> None:
    program = (
        "import sys\nfrom factfold_chassis.telemetry import Telemetry\n"
        "telemetry = Telemetry.from_environment('orders')\n"
        "for name in ('prometheus_client', 'opentelemetry.exporter.otlp'):\n"
        "    print(name if name in sys.modules else '')\n"
        "telemetry.shutdown(0.1)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={
            "PYTHONPATH": ":".join(sys.path), "OTEL_EXPORTER_PROMETHEUS_PORT": "0",
            "OTEL_EXPORTER_OTLP_ENDPOINT": "", **asked,
        },
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert set(done.stdout.split()) == imported

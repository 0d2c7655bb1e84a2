"""Mutual TLS by configuration: real processes, and a private authority of these tests."""

from __future__ import annotations

import contextlib
import datetime
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import test_service
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from grpc_health.v1 import health_pb2, health_pb2_grpc
from test_processes import children
from test_service import CODERS, LIGHT, Lamp, Process, get_lamp, light_lamp, watch_lamps

from factfold_chassis.client import channel
from factfold_chassis.errors import SettingsError
from factfold_chassis.service import Running
from factfold_chassis.settings import Settings
from factfold_chassis.telemetry import Telemetry
from factfold_chassis.testing import redis_server as servers
from factfold_chassis.tls import Files

SERVING = health_pb2.HealthCheckResponse.SERVING
DAY = datetime.timedelta(days=1)
PAST = {"not_before": datetime.datetime(2020, 1, 1), "not_after": datetime.datetime(2020, 2, 1)}
# A channel for each call has a connection, and so a handshake, of its own only with this.
ALONE = [("grpc.use_local_subchannel_pool", 1)]
Launch = Callable[..., Process]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def stranger() -> trustme.CA:
    return trustme.CA()


class Folder:
    """The three files of a service, and what its settings say of them."""

    def __init__(self, path: Path):
        path.mkdir(exist_ok=True)
        self.certificate, self.key, self.authorities = (
            path / name for name in ("tls.crt", "tls.key", "ca.crt")
        )
        self.environment = {
            "FACTFOLD_TLS_CERT_FILE": str(self.certificate),
            "FACTFOLD_TLS_KEY_FILE": str(self.key),
            "FACTFOLD_TLS_CA_FILE": str(self.authorities),
        }

    def write(
        self, issuer: trustme.CA, trusted: trustme.CA, host: str = "127.0.0.1", **given: Any
    ) -> Folder:
        issued = issuer.issue_cert(host, **given)
        self.certificate.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        self.key.write_bytes(issued.private_key_pem.bytes())
        self.authorities.write_bytes(trusted.cert_pem.bytes())
        return self

    @property
    def settings(self) -> Settings:
        return Settings.from_environment(self.environment)

    def credentials(self) -> grpc.ChannelCredentials:
        """A caller's, as the files are."""
        files = (self.authorities, self.key, self.certificate)
        return grpc.ssl_channel_credentials(*(file.read_bytes() for file in files))


@pytest.fixture
def own(tmp_path: Path, authority: trustme.CA) -> Folder:
    """The service's."""
    return Folder(tmp_path / "own").write(authority, authority)


@pytest.fixture
def caller(tmp_path: Path, authority: trustme.CA) -> Folder:
    return Folder(tmp_path / "caller").write(authority, authority)


@pytest.fixture
def launch(tmp_path: Path, server: servers.RedisServer) -> Iterator[Launch]:
    started: list[Process] = []

    def start(folder: Folder, **given: str) -> Process:
        environment = {"FACTFOLD_REDIS_URL": server.url, **folder.environment, **given}
        started.append(Process(tmp_path, **environment))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.wait()
        for pid in children(each):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def call(address: str, credentials: grpc.ChannelCredentials | None, id: str = "a") -> str:
    """What a lamp's name comes back as, on a connection of its own."""
    if credentials is None:
        opened = grpc.insecure_channel(address, options=ALONE)
    else:
        opened = grpc.secure_channel(address, credentials, options=ALONE)
    with opened as there:
        return str(there.unary_unary(LIGHT, *CODERS)(Lamp(id=id), timeout=5).id)


def refused(address: str, credentials: grpc.ChannelCredentials | None) -> str:
    """Why no connection came about."""
    with pytest.raises(grpc.RpcError) as error:
        call(address, credentials)
    assert error.value.code() is grpc.StatusCode.UNAVAILABLE
    return str(error.value.details())


def test_a_caller_of_the_authority_is_answered_and_nobody_else(
    launch: Launch, own: Folder, caller: Folder, authority: trustme.CA, stranger: trustme.CA
) -> None:
    process = launch(own)
    assert process.says("mutual TLS")["certificate"] == str(own.certificate)
    address = process.says("serving")["address"]
    assert call(address, caller.credentials()) == "a"
    root = authority.cert_pem.bytes()
    # Under TLS 1.3 a server refuses after the client has finished, which then sees a closed door.
    for credentials in (
        None,
        grpc.ssl_channel_credentials(root),
        caller.write(stranger, authority).credentials(),
        caller.write(authority, authority, **PAST).credentials(),
    ):
        refused(address, credentials)
    assert call(address, caller.write(authority, authority).credentials()) == "a"


def test_a_caller_refuses_a_server_of_another_authority_or_name(
    launch: Launch, own: Folder, caller: Folder, authority: trustme.CA, stranger: trustme.CA
) -> None:
    address = launch(own).says("serving")["address"]
    why = refused(address, caller.write(authority, stranger).credentials())
    assert "CERTIFICATE_VERIFY_FAILED" in why
    address = launch(own.write(authority, authority, "orders.example")).says("serving")["address"]
    why = refused(address, caller.write(authority, authority).credentials())
    assert "Hostname Verification Check failed" in why


def test_a_caller_refuses_a_server_whose_certificate_has_expired(
    launch: Launch, own: Folder, caller: Folder, authority: trustme.CA
) -> None:
    soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=15)
    process = launch(own.write(authority, authority, not_after=soon))
    address = process.says("serving")["address"]
    assert call(address, caller.credentials()) == "a"
    time.sleep(max(0, soon.timestamp() + 1.1 - time.time()))
    assert "CERTIFICATE_VERIFY_FAILED" in refused(address, caller.credentials())
    process.says(f"the certificate in FACTFOLD_TLS_CERT_FILE has expired: renew {own.certificate}")
    own.write(authority, authority)
    assert call(address, caller.credentials()) == "a"


def test_files_that_are_replaced_are_used_without_a_restart(
    launch: Launch, own: Folder, caller: Folder, authority: trustme.CA, stranger: trustme.CA
) -> None:
    process = launch(own)
    address = process.says("serving")["address"]
    former = caller.credentials()
    with grpc.secure_channel(address, former, options=ALONE) as there:
        light = there.unary_unary(LIGHT, *CODERS)
        light(Lamp(id="a"), timeout=5)
        own.write(stranger, stranger)
        refused(address, former)
        assert process.says("new TLS files")["certificate"] == str(own.certificate)
        assert call(address, caller.write(stranger, stranger).credentials()) == "a"
        assert light(Lamp(id="b"), timeout=5).id == "b"  # a connection that is there stays


def test_files_that_do_not_fit_leave_the_former_ones_in_use(
    launch: Launch, own: Folder, caller: Folder, authority: trustme.CA
) -> None:
    process = launch(own)
    address = process.says("serving")["address"]
    fitting = own.key.read_bytes()
    own.key.write_bytes(authority.issue_cert("127.0.0.1").private_key_pem.bytes())
    assert call(address, caller.credentials()) == "a"
    process.says(
        f"the former TLS files stay in use: FACTFOLD_TLS_KEY_FILE: {own.key} must hold the key of "
        "the certificate in FACTFOLD_TLS_CERT_FILE"
    )
    own.key.write_bytes(fitting)
    assert call(address, caller.credentials()) == "a"
    process.says("new TLS files")


def test_several_processes_have_it_all(
    launch: Launch, own: Folder, caller: Folder, stranger: trustme.CA
) -> None:
    process = launch(own, FACTFOLD_PROCESSES="2", FACTFOLD_HEALTH_LISTEN="127.0.0.1:0")
    lines = [process.says("serving") for _ in range(2)]
    (address,) = {line["address"] for line in lines}
    (probed,) = {line["health"] for line in lines}
    assert {call(address, caller.credentials(), str(at)) for at in range(20)} == set(
        map(str, range(20))
    )
    refused(address, None)
    assert {health(probed) for _ in range(20)} == {SERVING}
    own.write(stranger, stranger)
    caller.write(stranger, stranger)
    assert {call(address, caller.credentials()) for _ in range(20)} == {"a"}
    process.process.terminate()
    assert process.ends() == 0


def health(address: str) -> int:
    with grpc.insecure_channel(address, options=ALONE) as there:
        stub = health_pb2_grpc.HealthStub(there)
        return int(stub.Check(health_pb2.HealthCheckRequest(), timeout=5).status)


def test_probes_without_tls_have_an_address_that_answers_nothing_else(
    launch: Launch, own: Folder
) -> None:
    process = launch(own, FACTFOLD_HEALTH_LISTEN="127.0.0.1:0")
    probed = process.says("serving")["health"]
    assert health(probed) == SERVING
    with pytest.raises(grpc.RpcError) as error:
        call(probed, None)
    assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED
    process.process.terminate()
    assert process.ends() == 0


def test_an_address_for_probes_that_is_taken_is_one_line(launch: Launch, own: Folder) -> None:
    taken = launch(own).says("serving")["address"]
    for count in ("1", "2"):
        process = launch(own, FACTFOLD_HEALTH_LISTEN=taken, FACTFOLD_PROCESSES=count)
        assert process.ends() == 2
        assert process.lines[-1] == (
            f"lamps: FACTFOLD_HEALTH_LISTEN: {taken} cannot be listened on; "
            "is another process there?\n"
        )


def test_what_cannot_be_used_keeps_it_from_starting(launch: Launch, own: Folder) -> None:
    own.key.write_text("no key\n")
    for count in ("1", "2"):
        process = launch(own, FACTFOLD_PROCESSES=count)
        assert process.ends() == 2
        assert [line for line in process.lines if not line.startswith("{")] == [
            f"lamps: FACTFOLD_TLS_KEY_FILE: {own.key} must hold a private key in PEM, "
            "without a password\n"
        ]


def refusal(folder: Folder) -> str:
    with pytest.raises(SettingsError) as error:
        Files.of(folder.settings)
    return str(error.value)


def test_all_three_or_none(own: Folder) -> None:
    assert Files.of(Settings()) is None
    own.environment["FACTFOLD_TLS_CA_FILE"] = ""
    assert refusal(own) == (
        "FACTFOLD_TLS_CA_FILE must be set too: TLS needs FACTFOLD_TLS_CERT_FILE, "
        "FACTFOLD_TLS_KEY_FILE and FACTFOLD_TLS_CA_FILE"
    )


@pytest.mark.parametrize(
    ("setting", "what"),
    [
        ("FACTFOLD_TLS_CERT_FILE", "must hold a certificate in PEM"),
        ("FACTFOLD_TLS_KEY_FILE", "must hold a private key in PEM, without a password"),
        ("FACTFOLD_TLS_CA_FILE", "must hold a certificate in PEM"),
    ],
)
def test_each_file_is_named_with_its_setting(own: Folder, setting: str, what: str) -> None:
    path = Path(own.environment[setting])
    for text in ("", "hello\n", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"):
        path.write_text(text)
        assert refusal(own) == f"{setting}: {path} {what}"
    path.unlink()
    assert refusal(own) == f"{setting}: {path} cannot be read: No such file or directory"
    path.mkdir()
    assert refusal(own) == f"{setting}: {path} cannot be read: Is a directory"


def test_a_key_of_another_certificate_is_named(own: Folder, authority: trustme.CA) -> None:
    own.key.write_bytes(authority.issue_cert("127.0.0.1").private_key_pem.bytes())
    assert refusal(own) == (
        f"FACTFOLD_TLS_KEY_FILE: {own.key} must hold the key of the certificate in "
        "FACTFOLD_TLS_CERT_FILE"
    )


def test_a_key_that_is_too_weak_is_named(own: Folder) -> None:
    key = rsa.generate_private_key(65537, 1024)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "weak")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + DAY)
    own.certificate.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    own.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    assert refusal(own) == (
        f"FACTFOLD_TLS_CERT_FILE: {own.certificate} cannot be used: EE_KEY_TOO_SMALL"
    )


def test_a_key_with_a_password_is_not_asked_for_it(own: Folder) -> None:
    key = load_pem_private_key(own.key.read_bytes(), None)
    own.key.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    )
    assert refusal(own) == (
        f"FACTFOLD_TLS_KEY_FILE: {own.key} must hold a private key in PEM, without a password"
    )


def test_a_certificate_that_callers_refuse_is_named(
    own: Folder, authority: trustme.CA, stranger: trustme.CA
) -> None:
    start = (
        f"FACTFOLD_TLS_CERT_FILE: {own.certificate} is a certificate that callers would refuse, "
        "as they trust FACTFOLD_TLS_CA_FILE: "
    )
    own.write(authority, authority, **PAST)
    assert refusal(own) == f"{start}certificate has expired; renew it"
    own.write(stranger, authority)
    assert refusal(own) == f"{start}unable to get local issuer certificate; renew it"


def test_a_folder_that_is_swapped_behind_a_link_is_noticed(
    tmp_path: Path, authority: trustme.CA, stranger: trustme.CA
) -> None:
    """As Kubernetes renews the files of a secret."""
    Folder(tmp_path / "..1").write(authority, authority)
    Folder(tmp_path / "..2").write(stranger, stranger)
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "mounted").symlink_to("..data")
    files = Files.of(Folder(tmp_path / "mounted").settings)
    assert files
    assert files.newest.authorities == authority.cert_pem.bytes()
    (tmp_path / "..next").symlink_to("..2")
    (tmp_path / "..next").rename(tmp_path / "..data")
    assert files.newest.authorities == stranger.cert_pem.bytes()


async def test_calls_to_other_services_show_the_same_certificate(
    own: Folder, server: servers.RedisServer
) -> None:
    app = test_service.service(light_lamp, get_lamp, watch_lamps)
    settings = Settings.from_environment(
        own.environment | {"FACTFOLD_REDIS_URL": server.url, "FACTFOLD_LISTEN": "127.0.0.1:0"}
    )
    async with Running(app, settings, Telemetry()) as running:
        async with channel(running.address) as there:
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await there.unary_unary("/acme.lamps.v1.LampService/None", *CODERS)(Lamp())
            assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED
        Files.activate(None)
        async with channel(running.address) as there:
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await there.unary_unary(LIGHT, *CODERS)(Lamp())
            assert error.value.code() is grpc.StatusCode.UNAVAILABLE

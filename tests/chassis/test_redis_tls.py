"""TLS to Redis: services and the command line, a server that speaks it, and one in front."""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
import redis
import trustme
from cli.running import FACTFOLD, plain_environment
from test_service import CODERS, LIGHT, Lamp, Process
from test_tls import PAST
from tls_in_front import InFront
from topologies import Cluster

from factfold_chassis.errors import SettingsError
from factfold_chassis.settings import Settings
from factfold_chassis.testing import redis_server as servers

SECRET = "s3cret-of-lamps"
Launch = Callable[[str], Process]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


class Files:
    """Certificates, keys and authorities in PEM, by name."""

    def __init__(self, path: Path, authority: trustme.CA) -> None:
        self._path = path
        self._authority = authority
        authority.cert_pem.write_to_path(str(self["ca.crt"]))
        trustme.CA().cert_pem.write_to_path(str(self["other.crt"]))
        self.issue("server")
        self.issue("client")

    def __getitem__(self, name: str) -> Path:
        return self._path / name

    def issue(self, name: str, host: str = "127.0.0.1", **given: Any) -> None:
        issued = given.pop("by", self._authority).issue_cert(host, **given)
        chain = b"".join(pem.bytes() for pem in issued.cert_chain_pems)
        self[f"{name}.crt"].write_bytes(chain)
        self[f"{name}.key"].write_bytes(issued.private_key_pem.bytes())


@pytest.fixture
def files(tmp_path: Path, authority: trustme.CA) -> Files:
    return Files(tmp_path, authority)


@dataclass(frozen=True)
class Log:
    """A Redis that is reached through TLS at `port`, and without at `plain`."""

    port: int
    plain: int
    files: Files

    def url(self, options: str = "ssl_ca_certs={ca.crt}", scheme: str = "rediss") -> str:
        """`{name}` in the options is the path of that file."""
        options = re.sub(r"\{(.+?)\}", lambda found: str(self.files[found[1]]), options)
        return f"{scheme}://lamps:{SECRET}@127.0.0.1:{self.port}/0" + f"?{options}" * bool(options)


def speaks_tls() -> Path | None:
    """A server of this machine that was built with TLS."""
    for path in (*servers._candidates(), Path("/usr/bin/redis-server")):
        # It refuses the option that it does not know, or else the last one.
        asked = [path, "--port", "0", "--tls-port", "0", "--no-such-option", "0"]
        with contextlib.suppress(OSError):
            done = subprocess.run(asked, capture_output=True, text=True, timeout=10)
            if "no-such-option" in done.stdout + done.stderr:
                return path
    return None


@pytest.fixture(params=["redis", "in front"])
def serve(request: pytest.FixtureRequest, files: Files) -> Iterator[Callable[..., Log]]:
    """`serve(CERTIFICATE, clients=…)`: with `clients` it asks for certificates."""
    with contextlib.ExitStack() as ends:

        def begin(certificate: str = "server", *, clients: bool = False) -> Log:
            shown = files[f"{certificate}.crt"], files[f"{certificate}.key"]
            if request.param == "redis":
                if (binary := speaks_tls()) is None:
                    pytest.skip("no Redis with TLS is on this machine")
                log = ends.enter_context(with_tls(binary, *shown, files, clients))
            else:
                server = ends.enter_context(servers.start())
                asked = files["ca.crt"] if clients else None
                front = ends.enter_context(InFront(server.port, *shown, asked))
                log = Log(front.port, server.port, files)
            with redis.Redis(port=log.plain) as admin:
                rules = ["on", f">{SECRET}", "~*", "&*", "+@all"]
                admin.execute_command("ACL", "SETUSER", "lamps", *rules)
            return log

        yield begin


@contextlib.contextmanager
def with_tls(
    binary: Path, certificate: Path, key: Path, files: Files, clients: bool
) -> Iterator[Log]:
    tls_port = servers.free_port()
    options = [
        "--tls-port", str(tls_port), "--tls-cert-file", str(certificate),
        "--tls-key-file", str(key), "--tls-ca-cert-file", str(files["ca.crt"]),
        "--tls-auth-clients", "yes" if clients else "no",
    ]  # fmt: skip
    server = servers.RedisServer(binary, None, "everysec", servers.free_port(), options)
    server.start_again()
    with server:
        yield Log(tls_port, server.port, files)


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    started: list[Process] = []

    def start(url: str) -> Process:
        started.append(Process(tmp_path, FACTFOLD_REDIS_URL=url))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.wait()
        assert not any(SECRET in line for line in each.lines)


def refused(url: str) -> str:
    """What the command line says of the log, without a stack and without the password."""
    done = subprocess.run(
        [*FACTFOLD, "tail", "lamps", "--no-follow", "--redis", url],
        env=plain_environment(), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert SECRET not in done.stdout + done.stderr
    (line,) = done.stderr.splitlines()
    return line.removeprefix("factfold: ")


def works(launch: Launch, url: str) -> None:
    process = launch(url)
    address = process.says("serving")["address"]
    with grpc.insecure_channel(address) as there:
        assert there.unary_unary(LIGHT, *CODERS)(Lamp(id="a"), timeout=5).id == "a"
    done = subprocess.run(
        [*FACTFOLD, "tail", "lamps", "--no-follow", "--redis", url],
        env=plain_environment(), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "\tLampLit\ta\t" in done.stdout
    process.process.terminate()
    assert process.ends() == 0


def test_a_service_and_the_command_line_speak_tls(
    launch: Launch, serve: Callable[..., Log]
) -> None:
    log = serve()
    works(launch, log.url())


def test_on_a_cluster_whose_nodes_speak_tls(launch: Launch, files: Files) -> None:
    if (binary := speaks_tls()) is None:
        pytest.skip("no Redis with TLS is on this machine")
    tls = [
        "--tls-cert-file", str(files["server.crt"]), "--tls-key-file", str(files["server.key"]),
        "--tls-ca-cert-file", str(files["ca.crt"]), "--tls-auth-clients", "no",
    ]  # fmt: skip
    with Cluster(3, 0, tls=tls, binary=binary) as cluster:
        works(launch, f"{cluster.tls_url}?ssl_ca_certs={files['ca.crt']}")
        url = f"{cluster.tls_url}?ssl_ca_certs={files['other.crt']}"
        said = f"no authority in {files['other.crt']} has {TRUST} with ssl_ca_certs in "
        node = f"127.0.0.1:{cluster.nodes[-1].tls_port}"  # the last one that is asked
        launch(url).says(
            f"waiting for Redis: no node of the cluster answers; {node}: {said}FACTFOLD_REDIS_URL"
        )
        assert f"{said}the log's URL" in refused(url)


def test_with_certificates_of_their_own(launch: Launch, serve: Callable[..., Log]) -> None:
    log = serve(clients=True)
    url = log.url("ssl_ca_certs={ca.crt}&ssl_certfile={client.crt}&ssl_keyfile={client.key}")
    works(launch, url)


Wrong = tuple[str, str, str, dict[str, Any]]  # certificate, options, what is said, how it serves
TRUST = "signed the server's certificate; name the file of the one that has"
WRONG: dict[str, Wrong] = {
    "another authority": (
        "server", "ssl_ca_certs={other.crt}",
        f"no authority in {{other.crt}} has {TRUST} with ssl_ca_certs in SETTING", {},
    ),
    "no authority": (
        "server", "", f"no authority that this machine trusts has {TRUST}: ?ssl_ca_certs=FILE in "
        "SETTING", {},
    ),
    "another host": (
        "host", "ssl_ca_certs={ca.crt}",
        "IP address mismatch, certificate is not valid for '127.0.0.1'; use a name that it is for "
        "in SETTING, or give the server another one", {},
    ),
    "expired": (
        "expired", "ssl_ca_certs={ca.crt}", "the server's certificate has expired; renew it, or "
        "set this machine's clock right", {},
    ),
    "no certificate of its own": (
        "server", "ssl_ca_certs={ca.crt}",
        "the server ended the TLS connection; if it asks clients for certificates, add "
        "ssl_certfile and ssl_keyfile to SETTING", {"clients": True},
    ),
    "one that the server does not trust": (
        "server", "ssl_ca_certs={ca.crt}&ssl_certfile={stranger.crt}&ssl_keyfile={stranger.key}",
        "the server refused the certificate of ssl_certfile in SETTING, or ended the connection; "
        "must not an authority that it trusts have signed it?", {"clients": True},
    ),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG.values(), ids=list(WRONG))
def test_what_keeps_them_apart_is_one_line(
    launch: Launch, serve: Callable[..., Log], files: Files, wrong: Wrong
) -> None:
    certificate, options, said, how = wrong
    files.issue("host", "redis.example")
    files.issue("expired", **PAST)
    files.issue("stranger", by=trustme.CA())
    log = serve(certificate, **how)
    said = re.sub(r"\{(.+?)\}", lambda found: str(files[found[1]]), said)
    url = log.url(options)
    process = launch(url)
    process.says("waiting for Redis: " + said.replace("SETTING", "FACTFOLD_REDIS_URL"))
    assert not any("Traceback" in line for line in process.lines)
    where = f"rediss://127.0.0.1:{log.port}/0"
    said = said.replace("SETTING", "the log's URL")
    assert refused(url) == f"no log at {where}: {said}"


def test_a_scheme_that_is_not_the_ports(launch: Launch, serve: Callable[..., Log]) -> None:
    log = serve()
    url = log.url("", "redis")
    said = (
        "the server ended the connection at once; if that port is one for TLS, write rediss:// in "
    )
    launch(url).says(f"waiting for Redis: {said}FACTFOLD_REDIS_URL")
    assert refused(url) == f"no log at redis://127.0.0.1:{log.port}/0: {said}the log's URL"
    url = Log(log.plain, log.plain, log.files).url()
    said = "nothing there answers TLS; if that port is one without it, redis:// in "
    launch(url).says(f"waiting for Redis: {said}FACTFOLD_REDIS_URL")
    assert refused(url) == f"no log at rediss://127.0.0.1:{log.plain}/0: {said}the log's URL"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("ssl_ca_certs=/no", "ssl_ca_certs=/no cannot be read: No such file or directory"),
        ("ssl_ca_certs={client.key}", "ssl_ca_certs={client.key} must hold certificates in PEM"),
        ("ssl_keyfile={client.key}", "ssl_keyfile needs ssl_certfile beside it"),
        ("ssl_certfile=/no", "ssl_certfile=/no cannot be read: No such file or directory"),
        (
            "ssl_certfile={client.crt}&ssl_keyfile={server.key}",
            "ssl_keyfile={server.key} must hold the key of the certificate in ssl_certfile",
        ),
        (
            "ssl_certfile={ca.crt}",
            "ssl_certfile={ca.crt} must hold a certificate and its key in PEM",
        ),
        (
            "ssl_ca_cert={ca.crt}",
            "ssl_ca_cert is no option; those for files are ssl_ca_certs, ssl_certfile and "
            "ssl_keyfile",
        ),
    ],
)  # fmt: skip
def test_files_that_cannot_be_used_are_refused_at_the_start(
    files: Files, options: str, said: str
) -> None:
    url = Log(1, 1, files).url(options)
    said = re.sub(r"\{(.+?)\}", lambda found: str(files[found[1]]), said)
    for setting in ("FACTFOLD_REDIS_URL", "FACTFOLD_REDIS_READ_URL"):
        with pytest.raises(SettingsError, match=f"^{re.escape(f'{setting}: {said}')}$"):
            Settings.from_environment({setting: url})
    assert refused(url) == f"the log's URL: {said}"


def test_options_of_tls_want_tls(files: Files) -> None:
    url = Log(1, 1, files).url(scheme="redis")
    said = "ssl_ca_certs is for rediss://, which is TLS"
    with pytest.raises(SettingsError, match=f"^FACTFOLD_REDIS_URL: {said}$"):
        Settings.from_environment({"FACTFOLD_REDIS_URL": url})
    assert refused(url) == f"the log's URL: {said}"


def test_the_password_of_a_key_is_a_secret(files: Files) -> None:
    url = Log(1, 1, files).url("ssl_ca_certs={ca.crt}&ssl_password=of-the-key")
    settings = Settings.from_environment({"FACTFOLD_REDIS_URL": url})
    assert {"of-the-key", SECRET} <= set(settings.secrets)
    assert settings.redis_address == "rediss://127.0.0.1:1/0"


def test_a_certificate_that_is_renewed_is_taken_up(
    launch: Launch, files: Files, authority: trustme.CA
) -> None:
    """Each connection reads its files: nothing is restarted."""
    with servers.start() as server:
        with redis.Redis(port=server.port) as admin:
            admin.execute_command(
                "ACL", "SETUSER", "lamps", "on", f">{SECRET}", "~*", "&*", "+@all"
            )
        shown = files["server.crt"], files["server.key"]
        other = trustme.CA()
        with InFront(server.port, *shown) as front:
            log = Log(front.port, server.port, files)
            process = launch(log.url("ssl_ca_certs={ca.crt}"))
            address = process.says("serving")["address"]
            files.issue("server", by=other)
            front.renew(*shown)
            with files["ca.crt"].open("ab") as more:
                more.write(other.cert_pem.bytes())
            front.cut()
            with grpc.insecure_channel(address) as there:
                ask = there.unary_unary(LIGHT, *CODERS)
                for _ in range(50):
                    with contextlib.suppress(grpc.RpcError):
                        assert ask(Lamp(id="b"), timeout=5).id == "b"
                        break
                else:
                    pytest.fail("\n".join(process.lines))

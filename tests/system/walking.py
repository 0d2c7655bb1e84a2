"""What docs/scaling.md says to do, done: its files are written and its commands run."""

import os
import re
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Self

from topologies.node import port_with_bus

from factfold_cli.redis_server import find, kept

PAGE = (Path(__file__).parents[2] / "docs" / "scaling.md").read_text()
_PORT = re.compile(r"\b2?70\d\d\b")
# Ends the servers, which run on their own, when the tests are gone.
_KEEPER = "trap 'cat */redis.pid | xargs -r kill -9' TERM; while :; do sleep 1; done"


class Walk:
    """`with Walk(folder) as walk:` a shell in the folder, with other ports than the page's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ports: dict[str, str] = {}
        tools = folder / "tools"
        tools.mkdir()
        server = find()
        (tools / "redis-server").symlink_to(server)
        beside = server.with_name("redis-cli")
        client = beside if beside.exists() else shutil.which("redis-cli")
        assert client, "redis-cli is not installed"
        (tools / "redis-cli").symlink_to(client)
        self._path = os.pathsep.join([str(tools), os.environ["PATH"]])
        self._master = ""
        self._said = [self._here(each) for each in re.findall(r"`([^`\n]+)`", PAGE)]
        for name in re.findall(r"^```(?:conf|sh)\n# (\w+\.\w+)\b", PAGE, re.M):
            (folder / name).write_text(self._block(name))

    def __enter__(self) -> Self:
        self._keeper = subprocess.Popen(
            kept(["sh", "-c", _KEEPER], 15.0),
            cwd=self.folder,
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        for file in self.folder.glob("*/redis.pid"):
            with suppress(ProcessLookupError, ValueError):
                os.kill(int(file.read_text()), signal.SIGKILL)
        self._keeper.communicate()

    def port(self, of_page: str) -> int:
        return int(self._ports.setdefault(of_page, str(port_with_bus())))

    @property
    def master(self) -> int:
        """$M."""
        return int(self._master)

    def do(self, name: str) -> None:
        """Runs the block that begins with `# name`; $M goes from one to the next."""
        self.shell(self._block(name))

    def shell(self, commands: str) -> None:
        kept = self.folder / "M"
        done = subprocess.run(
            ["sh", "-euc", f'{commands}\necho "${{M-}}" > {kept}'],
            cwd=self.folder,
            env={**os.environ, "PATH": self._path, "M": self._master},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        self._master = kept.read_text().strip()

    def command(self, beginning: str) -> str:
        """The one in the page's text that begins so, between backticks."""
        (found,) = {each for each in self._said if each.startswith(beginning)}
        return found

    @property
    def data(self) -> list[str]:
        """Where `factfold up` keeps the log."""
        return ["--data", str(self.folder / "log")]

    def settings(self, name: str) -> dict[str, str]:
        """The variables of a block."""
        lines = self._block(name).splitlines()
        return dict(line.split("=", 1) for line in lines)

    def _block(self, name: str) -> str:
        (block,) = re.findall(rf"^```\w+\n# {re.escape(name)}\b.*\n((?:.*\n)*?)```$", PAGE, re.M)
        return self._here(block)

    def _here(self, text: str) -> str:
        return _PORT.sub(lambda found: str(self.port(found[0])), text)

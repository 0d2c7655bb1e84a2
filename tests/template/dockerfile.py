"""Replays a Dockerfile without Docker: each RUN in its stage's own root, COPY by Docker's rules.

A stage's root is an empty folder in which the machine's system folders lie read-only and without
compilers, as in a slim image, with the Python that runs here, or this machine's Go, as the base
image's; `scratch` is empty. It is entered by `unshare` and `chroot`, so it takes Linux, and root or
user namespaces.

Whatever a Dockerfile says that is not known here fails the replay.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

FOLDERS = [Path(path) for path in ("/bin", "/etc", "/lib", "/lib64", "/sbin", "/usr")]
# Of newer systems, some are links into /usr, and stay that: a second way in would be open.
LINKS = [path for path in FOLDERS if path.is_symlink()]
SYSTEM = [path for path in FOLDERS if path.exists() and path not in LINKS]
COMPILERS = re.compile(r"(.*-)?(cc|c\+\+|gcc|g\+\+|clang|clang\+\+|ld|as|make|rustc|go)(-[\d.]+)?")
PYTHON = Path(sys.base_prefix)
PATH = "/base:/usr/bin:/bin"
KEPT = ("PIP_", "SSL_", "GOPROXY", "GOSUMDB", "http_proxy", "https_proxy", "no_proxy")

ENTER = """
set -eu
root=$1 volume=$2 read_only=$3; shift 3
# A mount of its own, so that it can be made read-only.
mount --bind "$root" "$root"
{mounts}
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=1777 tmp "$root/tmp"
[ -z "$volume" ] || mount --bind "$volume" "$root/snapshots"
if [ -n "$read_only" ]; then
  mount -o remount,bind,ro "$root"
  if touch "$root/written" 2>/dev/null; then echo "the root can be written to" >&2; exit 99; fi
fi
exec env -i "$@"
"""


class ReplayError(AssertionError):
    """A line failed, or is not known."""


@dataclass(frozen=True)
class Base:
    """What an image brings along that a stage begins with.

    Attributes:
        lent: folders of this machine that are there, read-only.
        caches: folders of this machine, and where they are.
        programs: what each is called in /base, the first folder of PATH.
        hidden: programs that are not there.
    """

    lent: Sequence[Path] = ()
    caches: Mapping[Path, str] = field(default_factory=dict)
    programs: Mapping[str, Path] = field(default_factory=dict)
    hidden: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    def mounts(self, root: Path) -> str:
        """What a shell has to do, below the stage's `root`."""
        lines: list[list[str]] = []
        for path in self.lent:
            at = f"{root}{path}"
            lines += [["mount", "--rbind", str(path), at], ["mount", "-o", "remount,bind,ro", at]]
        for path, inside in self.caches.items():
            lines.append(["mount", "--bind", str(path), f"{root}{inside}"])
        # After what is lent, which may be one folder twice.
        for program in self.hidden:
            lines.append(["mount", "--bind", "/dev/null", f"{root}{program}"])
        return "\n".join(map(shlex.join, lines))


@dataclass
class Stage:
    """What a FROM begins.

    Attributes:
        root: the folder that is its `/`.
    """

    root: Path
    base: Base
    environment: dict[str, str] = field(default_factory=dict)
    folder: str = "/"
    user: str = "0:0"
    entrypoint: list[str] = field(default_factory=list)
    ports: list[str] = field(default_factory=list)

    def path(self, text: str) -> Path:
        """Where `text`, as the Dockerfile has it, lies on this machine."""
        return self.root / os.path.normpath(os.path.join(self.folder, text)).lstrip("/")

    def source(self, text: str) -> Path:
        """The same, of what is only read: it may be in a folder that is lent."""
        lent = any(Path(text).is_relative_to(each) for each in self.base.lent)
        return Path(text) if lent else self.path(text)

    def command(
        self,
        words: Sequence[str],
        *,
        volume: Path | None = None,
        read_only: bool = False,
        **environment: str,
    ) -> list[str]:
        """What runs `words` in this stage, as its user; the process is ended by ending this one.

        Args:
            volume: a folder to mount on /snapshots.
            read_only: whether all but /tmp and the volume is.
        """
        settings = {"PATH": PATH} | dict(self.base.environment) | self.environment | environment
        if self.folder != "/":  # an image may have no shell
            words = ["sh", "-c", f'cd {shlex.quote(self.folder)} && exec "$@"', "sh", *words]
        enter = ENTER.format(mounts=self.base.mounts(self.root))
        chroot = shutil.which("chroot", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        return [
            *(*namespace(), "sh", "-c", enter, "sh", str(self.root), str(volume or "")),
            *("yes" if read_only else "", *(f"{name}={each}" for name, each in settings.items())),
            *(str(chroot), f"--userspec={self.user}", str(self.root), *words),
        ]

    def run(self, words: Sequence[str]) -> str:
        """What `words` printed; raises ReplayError if they fail."""
        kept = {name: value for name, value in os.environ.items() if name.startswith(KEPT)}
        done = subprocess.run(
            self.command(words, **kept), capture_output=True, text=True, timeout=600
        )
        if done.returncode:
            raise ReplayError(f"{shlex.join(words)}:\n{done.stdout}{done.stderr}")
        return done.stdout


def replay(dockerfile: Path, context: Path, folder: Path) -> Stage:
    """The last stage, once each line has been carried out below the empty folder `folder`."""
    stages: dict[str, Stage] = {}
    stage: Stage | None = None
    for instruction, rest in instructions(dockerfile.read_text()):
        if instruction == "FROM":
            image, _, name = rest.partition(" AS ")
            base = base_of(image)
            stage = Stage(_root(folder / f"stage-{len(stages)}", base), base)
            stages[name or str(len(stages))] = stage
            continue
        assert stage is not None
        match instruction:
            case "WORKDIR":
                stage.folder = rest
                stage.path("").mkdir(parents=True, exist_ok=True)
            case "COPY":
                _copy(rest, stage, stages, context)
            case "RUN":
                stage.run(json.loads(rest) if rest.startswith("[") else ["sh", "-c", rest])
            case "ENV":
                name, value = rest.split("=", 1)
                stage.environment[name] = value
            case "EXPOSE":
                stage.ports.append(rest)
            case "USER":
                stage.user = rest
            case "ENTRYPOINT":
                stage.entrypoint = json.loads(rest)
            case _:
                raise ReplayError(f"not known here: {instruction} {rest}")
    assert stage is not None
    return stage


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """Each instruction of a Dockerfile and the rest of its line, continued lines joined."""
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    for line in filter(None, lines.replace("\\\n", " ").splitlines()):
        instruction, _, rest = line.partition(" ")
        yield instruction, rest.strip()


def sent(context: Path) -> list[Path]:
    """The files of `context` that Docker would get to see, relative: those not in .dockerignore."""
    ignore = context / ".dockerignore"
    lines = ignore.read_text().splitlines() if ignore.exists() else []
    rules = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if kept := [rule for rule in rules if rule.startswith("!")]:
        raise ReplayError(f"not known here: {kept}")
    patterns = [re.compile(_expression(rule.strip("/"))) for rule in rules]
    files = (path.relative_to(context) for path in context.rglob("*") if path.is_file())
    return [
        path
        for path in files
        if not any(
            pattern.fullmatch(part.as_posix())
            for pattern in patterns
            for part in (path, *path.parents[:-1])
        )
    ]


def _expression(pattern: str) -> str:
    """Docker's pattern as a regular expression: from the root, `**/` is any folders or none."""
    parts = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    found = re.findall(r"\*\*/|\*\*|\*|\?|[^*?]+", pattern)
    return "".join(parts.get(part, re.escape(part)) for part in found)


def _copy(rest: str, stage: Stage, stages: dict[str, Stage], context: Path) -> None:
    *words, target = shlex.split(rest)
    options = dict(word.removeprefix("--").split("=", 1) for word in words if word.startswith("--"))
    sources = [word for word in words if not word.startswith("--")]
    here = stage.path(target)
    origin = stages[options.pop("from")] if "from" in options else None
    for source in sources:
        if origin is not None:
            _put(origin.source(source), here, target)
        else:
            wanted = [path for path in sent(context) if path.is_relative_to(source)]
            if not wanted:
                raise ReplayError(f"COPY {source}: there is nothing of it in the context")
            for path in wanted:
                relative = path.relative_to(source) if path != Path(source) else Path(path.name)
                (here / relative).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(context / path, here / relative)
    if (owner := options.pop("chown", "")) and os.getuid() == 0:
        user, group = map(int, owner.split(":"))
        for path in (here, *here.rglob("*")):
            os.chown(path, user, group, follow_symlinks=False)
    if options:
        raise ReplayError(f"not known here: COPY {rest}")


def _put(source: Path, here: Path, target: str) -> None:
    if source.is_dir():
        shutil.copytree(source, here, symlinks=True, dirs_exist_ok=True)
    else:
        here = here / source.name if target.endswith("/") else here
        here.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, here)


def base_of(image: str) -> Base:
    """What stands for an image here; raises ReplayError if nothing does."""
    match image.partition(":")[0]:
        case "scratch":
            return Base()
        case "python":
            python = Path(os.path.realpath(sys.executable))
            lent = [*SYSTEM, PYTHON]
            return Base(lent, programs={"python": python}, hidden=compilers())
        case "golang":
            root, modules, builds = (Path(_go_env(name)) for name in GO)
            for path in (modules, builds):
                path.mkdir(parents=True, exist_ok=True)
            return Base(
                [*SYSTEM, root],
                caches={modules: "/go/pkg/mod", builds: "/go/build"},
                programs={"go": root / "bin/go"},
                hidden=[path for path in compilers() if not Path(path).is_relative_to(root)],
                # It looks for itself in /proc, which is not there.
                environment={"GOROOT": str(root), "GOPATH": "/go", "GOCACHE": "/go/build"},
            )
    raise ReplayError(f"not known here: FROM {image}")


GO = ("GOROOT", "GOMODCACHE", "GOCACHE")


def _go_env(name: str) -> str:
    return subprocess.run(
        ["go", "env", name], capture_output=True, text=True, check=True
    ).stdout.strip()


def _root(root: Path, base: Base) -> Path:
    """The root of a stage before its first line."""
    for path in (*map(str, base.lent), *base.caches.values(), "/dev", "/tmp", "/base"):
        (root / path.lstrip("/")).mkdir(parents=True, exist_ok=True)
    for name, program in base.programs.items():
        (root / "base" / name).symlink_to(program)
    # Whoever the service runs as passes through, as in an image.
    for path in [root, *(path for path in root.rglob("*") if path.is_dir())]:
        path.chmod(0o755)
    for link in LINKS if base.lent else ():
        (root / link.name).symlink_to(link.readlink())
    return root


def compilers() -> list[str]:
    """Those of this machine below SYSTEM, which a slim image does not have."""
    folders = ("/usr/bin", "/usr/local/bin", "/usr/local/go/bin")
    found = (path for folder in folders for path in Path(folder).glob("*"))
    return sorted({os.path.realpath(path) for path in found if COMPILERS.fullmatch(path.name)})


def namespace() -> list[str]:
    """What gives a command mounts of its own, or nothing where the machine does not let it."""
    if sys.platform != "linux" or shutil.which("unshare") is None:
        return []
    rights = [] if os.getuid() == 0 else ["--map-root-user"]
    command = ["unshare", *rights, "--mount"]
    probe = "mount -t tmpfs probe /mnt && mount -o remount,bind,ro /mnt"
    tried = subprocess.run([*command, "sh", "-c", probe], capture_output=True)
    return [] if tried.returncode else command

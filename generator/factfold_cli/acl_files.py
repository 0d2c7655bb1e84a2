"""A folder with users of the log: their rules, and the URLs that have their passwords.

`<user>.acl` has a line as Redis' `aclfile` takes it, `<user>.url` the log's URL with the user's
name and password, for FACTFOLD_REDIS_URL_FILE; only its owner can read it. `users.acl` is all of
the former. Passwords are never made anew: they are in the URLs, and where those were taken away,
the rules still have their hashes.
"""

import os
import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from factfold_cli import log
from factfold_cli.acl_lines import line
from factfold_cli.errors import Failed, Refused
from factfold_cli.given import given_url
from factfold_cli.rights import Role

ALL = "users.acl"
_IGNORED = ".gitignore"
_HASH = re.compile(r"(?<= #)[0-9a-f]{64}(?= )")
_NOT_OPEN = 0o600


@dataclass(frozen=True)
class File:
    """One to be written. `state` says how it is now: "new", "changed" or "same"."""

    path: Path
    text: str
    state: str
    secret: bool = False


@dataclass(frozen=True)
class User:
    """One of a role: its rules as they are written, and where its URL is, if it has one."""

    role: Role
    line: str
    acl: File
    url: File | None

    @property
    def shown(self) -> str:
        """The rules without hashes, of which a weak password could be guessed."""
        return _HASH.sub("…", self.line)


class Folder:
    """Where the users' files are.

    Args:
        base: the log's URL, of which user and password are replaced; None: that of the files
            that are there, of each its own, and if there is none, what services would use here.
        selectors: whether the server has them.
    """

    def __init__(self, path: Path, base: str | None, *, selectors: bool) -> None:
        self._path = path
        self._base = base
        self._selectors = selectors

    def users(self, files: Iterable[tuple[str, Sequence[Role]]]) -> list[User]:
        """Of each name of an `.acl` file the roles in it. Nothing is written.

        Raises Failed for a file that cannot be used.
        """
        return [user for name, roles in files for user in self._of(name, roles)]

    def _of(self, name: str, roles: Sequence[Role]) -> list[User]:
        path = self._path / f"{name}.acl"
        made = [(role, *self._password(path, role)) for role in roles]
        lines = [line(role, hashes, selectors=self._selectors) for role, hashes, _ in made]
        acl = _file(path, "".join(f"{each}\n" for each in lines))
        return [User(role, its, acl, url) for (role, _, url), its in zip(made, lines, strict=True)]

    def _password(self, acl: Path, role: Role) -> tuple[list[str], File | None]:
        """Hashes, and the URL; None if it was taken away, or nobody can be the user."""
        if role.off:
            return [], None
        path = self._path / f"{role.name}.url"
        present = _read(path)
        if present is None:
            if hashes := _hashes(_read(acl) or "", role.name):
                return hashes, None
            password = secrets.token_urlsafe(32)
        else:
            password = _password_of(path, present)
        base = self._base or (present or "").strip() or self._here()
        url = _file(path, _as(base, role.name, password) + "\n", secret=True)
        return [sha256(password.encode()).hexdigest()], url

    def _here(self) -> str:
        """The URL of a user that is new."""
        there = (_read(path) for path in sorted(self._path.glob("*.url")))
        return next((text.strip() for text in there if text), given_url() or log.DEFAULT_URL)

    def files(self, users: Sequence[User]) -> list[File]:
        """All that have to be there, in the order in which they may be written."""
        urls = [user.url for user in users if user.url is not None]
        acls = {user.acl.path: user.acl for user in users}
        texts = {path: _read(path) or "" for path in self._path.glob("*.acl")}
        texts |= {path: file.text for path, file in acls.items()}
        texts.pop(self._path / ALL, None)
        joined = "".join(texts[path] for path in sorted(texts))
        ignored = _file(self._path / _IGNORED, "*.url\n")
        return [ignored, *urls, *acls.values(), _file(self._path / ALL, joined)]

    def strangers(self, users: Sequence[User]) -> list[str]:
        """Names of `.acl` files of others than `users`, which `users.acl` has too."""
        known = {ALL, *(user.acl.path.name for user in users)}
        return sorted(path.name for path in self._path.glob("*.acl") if path.name not in known)


def write(files: Iterable[File]) -> None:
    """Each in one step; what is as it should be is left alone, but nobody else may read a URL."""
    for file in files:
        if file.secret and file.path.exists():
            file.path.chmod(_NOT_OPEN)
        if file.state == "same":
            continue
        file.path.parent.mkdir(parents=True, exist_ok=True)
        beside = file.path.with_name(f".{file.path.name}.{secrets.token_hex(4)}")
        mode = _NOT_OPEN if file.secret else 0o644
        with open(os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode), "w") as to:
            to.write(file.text)
        beside.replace(file.path)


def _file(path: Path, text: str, *, secret: bool = False) -> File:
    present = _read(path)
    state = "new" if present is None else "same" if present == text else "changed"
    return File(path, text, state, secret)


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise Failed(f"{path} cannot be read ({type(error).__name__}): mend or remove it") from None


def _hashes(text: str, name: str) -> list[str]:
    lines = (each for each in text.splitlines() if each.startswith(f"user {name} "))
    return [found for each in lines for found in _HASH.findall(each)]


def _password_of(path: Path, text: str) -> str:
    try:
        log.check(text.strip())
        password = urlsplit(text.strip()).password
    except Refused:
        password = None
    if not password:
        # Its text stays unsaid: it may be a password alone.
        raise Failed(f"{path} has no URL of a log with a password: write one, or remove the file")
    return unquote(password)


def _as(base: str, name: str, password: str) -> str:
    """The URL `base` as another user."""
    parts = urlsplit(base)
    host = parts.netloc.rpartition("@")[2]
    query = [each for each in parse_qsl(parts.query) if each[0] not in ("username", "password")]
    user = f"{quote(name, safe='')}:{quote(password, safe='')}"
    return parts._replace(netloc=f"{user}@{host}", query=urlencode(query, safe="/:")).geturl()

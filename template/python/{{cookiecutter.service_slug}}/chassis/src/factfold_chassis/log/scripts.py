"""The Lua scripts that every language shares, and how they are called."""

from collections.abc import Sequence
from hashlib import sha1
from importlib.resources import files
from typing import Any

from redis.exceptions import NoScriptError

from factfold_chassis.log.link import Argument, Link


class Script:
    """One script, called by its SHA-1 and loaded where the server does not have it."""

    def __init__(self, name: str):
        self.source = (files("factfold_chassis") / "lua" / f"{name}.lua").read_bytes()
        self.sha = sha1(self.source, usedforsecurity=False).hexdigest()

    def command(self, keys: Sequence[str | bytes], *args: Argument) -> tuple[Argument, ...]:
        """The EVALSHA command."""
        return ("EVALSHA", self.sha, len(keys), *keys, *args)

    async def __call__(self, link: Link, keys: Sequence[str | bytes], *args: Argument) -> Any:
        """Run it and wait; safe to run again because the server had not run it yet."""
        try:
            return await link.call(*self.command(keys, *args))
        except NoScriptError:
            await load(link, self)
            return await link.call(*self.command(keys, *args))


async def load(link: Link, *scripts: Script) -> None:
    """Let the server have all of them, in one round trip."""
    await link.send(*[("SCRIPT", "LOAD", script.source) for script in scripts])
    for _ in scripts:
        await link.receive_soon()


APPEND = Script("append")
CREATE = Script("create")
MEMBER = Script("member")
CLAIM = Script("claim")
BEAT = Script("beat")
RELEASE = Script("release")
SETTLE = Script("settle")
COMMIT = Script("commit")
LETTERS = Script("letters")
RENEW = Script("renew")
TRIM = Script("trim")

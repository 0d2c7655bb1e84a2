"""Users as lines of Redis' `aclfile`.

From Redis 7 on a user has selectors: commands together with the keys that they may touch. In 6.2
every command may touch every key of the user, but for those whose first argument is named, and
that is the key of most that write.
"""

from collections.abc import Sequence

from factfold_cli.rights import Role


def line(role: Role, passwords: Sequence[str], *, selectors: bool) -> str:
    """`user <name> on …`; `passwords` are SHA-256 hashes in hex."""
    words = ["user", role.name, "off" if role.off else "on", *(f"#{each}" for each in passwords)]
    if role.everything:
        return " ".join([*words, "~*", "&*", "+@all"])
    words += ["resetchannels", "-@all"]
    return " ".join([*words, *(_with_selectors(role) if selectors else _without(role))])


def _with_selectors(role: Role) -> list[str]:
    words = [f"%R~{pattern}" for pattern in role.readable]
    words += [f"+{command}" for command in (*role.keyless, *role.reads)]
    for right in role.writes:
        if patterns := [f"~{pattern}" for pattern in right.keys.patterns]:
            commands = [f"+{command}" for command in right.commands]
            words.append(f"({' '.join([*commands, *patterns])})")
    return words


def _without(role: Role) -> list[str]:
    patterns = dict.fromkeys(role.readable)
    words = [f"+{command}" for command in (*role.keyless, *role.reads)]
    for right in role.writes:
        patterns |= dict.fromkeys(right.keys.patterns)
        for command in right.commands:
            if right.held:
                words += [f"+{command}|{key}" for key in right.keys.exact]
            else:
                words.append(f"+{command}")
    return [*(f"~{pattern}" for pattern in patterns), *words]

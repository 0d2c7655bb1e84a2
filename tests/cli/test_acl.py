"""`factfold acl`: which files, which passwords; what the rules allow is in tests/rights."""

import json
import re
import shutil
import stat
import subprocess
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis

from factfold_cli import redis_server

from .piped import piped
from .running import FACTFOLD

OPERATORS = ["factfold-viewer", "factfold-operator", "factfold-admin"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with orders and shipments, which subscribes to it."""
    folder = tmp_path_factory.mktemp("made")
    for words in (["orders"], ["shipments", "--subscribe", "orders"]):
        command = [*FACTFOLD, "new", *words, "--language", "python", "--no-input"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("FACTFOLD_REDIS_URL", "FACTFOLD_REDIS_URL_FILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("orders", "shipments"):
        shutil.copytree(made / name, tmp_path / name)
    return tmp_path


def acl(at: Path, *words: str) -> str:
    done = piped("acl", *words, at=at)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def refused(at: Path, *words: str) -> str:
    """The one line of a command that fails, without `factfold: `."""
    done = piped("acl", *words, at=at)
    assert done.returncode in (1, 2)
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    return line.removeprefix("factfold: ")


def contents(at: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted((at / "acl").iterdir())}


def lines(at: Path, name: str = "users.acl") -> dict[str, str]:
    """The rules of each user."""
    its = (at / "acl" / name).read_text().splitlines()
    return {line.split()[1]: line for line in its}


def test_a_file_for_each_service_and_urls_that_nobody_else_can_read(here: Path) -> None:
    said = acl(here, "--redis", "rediss://someone:s3cret@redis.example:6390/2?ssl_ca_certs=/ca.crt")
    users = ["orders", "shipments", *OPERATORS]
    files = contents(here)
    assert set(files) == {
        ".gitignore", "operators.acl", "orders.acl", "shipments.acl", "users.acl",
        *(f"{user}.url" for user in users),
    }  # fmt: skip
    assert files[".gitignore"] == "*.url\n"
    assert list(lines(here)) == [*OPERATORS, "default", "orders", "shipments"]
    assert lines(here)["default"] == "user default off resetchannels -@all"
    for user in users:
        path = here / f"acl/{user}.url"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        parts = urlsplit(path.read_text())
        password = parts.password or ""
        assert path.read_text() == (
            f"rediss://{user}:{password}@redis.example:6390/2?ssl_ca_certs=/ca.crt\n"
        )
        assert len(password) > 40
        assert f" #{sha256(password.encode()).hexdigest()} " in lines(here)[user]
        assert password not in said
        assert f"{user}, " in said
        assert f": FACTFOLD_REDIS_URL_FILE=acl/{user}.url\n" in said
    assert "s3cret" not in said + "".join(files.values())
    assert said.splitlines()[-1] == (
        "next: each Redis gets aclfile acl/users.acl, then ACL LOAD as factfold-admin"
    )


def test_a_second_run_changes_nothing_and_another_service_adds_its_own(here: Path) -> None:
    acl(here, "orders", "--redis", "redis://redis.example:6390")
    before = contents(here)
    said = acl(here, "orders")
    assert contents(here) == before
    assert said.splitlines()[-2] == "all files are as they should be"
    said = acl(here, "shipments")
    assert "in acl/users.acl too: orders.acl; remove what is of no use any more" in said
    after = contents(here)
    assert {name: after[name] for name in before if name != "users.acl"} == {
        name: text for name, text in before.items() if name != "users.acl"
    }
    assert list(lines(here)) == [*OPERATORS, "default", "orders", "shipments"]
    assert "@redis.example:6390" in after["shipments.url"]  # that of the others


def test_passwords_are_given_and_taken_away(here: Path) -> None:
    acl(here)
    before = lines(here)
    (here / "acl/orders.url").write_text("redis://orders:p%40ss%2Fword@elsewhere:6379/0\n")
    (here / "acl/orders.url").chmod(0o644)
    (here / "acl/shipments.url").unlink()
    said = acl(here)
    assert f" #{sha256(b'p@ss/word').hexdigest()} " in lines(here)["orders"]
    assert (
        here / "acl/orders.url"
    ).read_text() == "redis://orders:p%40ss%2Fword@elsewhere:6379/0\n"
    assert stat.S_IMODE((here / "acl/orders.url").stat().st_mode) == 0o600
    # Who keeps passwords in another place takes the file away; the hash stays.
    assert lines(here)["shipments"] == before["shipments"]
    assert not (here / "acl/shipments.url").exists()
    assert "shipments, the service shipments: its password is kept elsewhere" in said
    acl(here, "--redis", "redis://third.example:6379/0")
    assert (here / "acl/orders.url").read_text() == (
        "redis://orders:p%40ss%2Fword@third.example:6379/0\n"
    )


@pytest.mark.parametrize("text", ["s3cret", "redis://host:6379", "http://a:s3cret@host", ""])
def test_a_url_that_is_none_is_not_replaced(here: Path, text: str) -> None:
    acl(here)
    (here / "acl/orders.url").write_text(text)
    before = contents(here)
    assert refused(here) == (
        "acl/orders.url has no URL of a log with a password: write one, or remove the file"
    )
    assert contents(here) == before


def test_a_dry_run_writes_nothing_and_shows_no_hash(here: Path) -> None:
    said = acl(here, "--dry-run")
    assert not (here / "acl").exists()
    assert "user orders on #… resetchannels -@all %R~{orders/*}:log " in said
    assert not re.search("[0-9a-f]{64}", said)
    assert "would write acl/.gitignore, acl/orders.url" in said
    acl(here)
    assert "all files are as they should be" in acl(here, "--dry-run")


def test_a_program_reads_where_everything_is(here: Path) -> None:
    document: dict[str, Any] = json.loads(acl(here, "--json", "--server", "6.2"))
    assert (document["server"], document["dry_run"], document["others"]) == ("6.2", False, [])
    assert document["aclfile"] == "acl/users.acl"
    users = {each["user"]: each for each in document["users"]}
    assert list(users) == ["orders", "shipments", "shipments-reads", *OPERATORS, "default"]
    assert {**users["shipments-reads"], "rules": ""} == {
        "user": "shipments-reads",
        "for": "the service shipments, reading streams of others",
        "acl": "acl/shipments.acl",
        "url": "acl/shipments-reads.url",
        "setting": "FACTFOLD_REDIS_READ_URL_FILE",
        "rules": "",
    }
    assert users["default"]["url"] is None
    assert not re.search("[0-9a-f]{64}", json.dumps(document))
    assert {each["state"] for each in document["files"]} == {"new"}
    again = json.loads(acl(here, "--json", "--server", "6.2"))
    assert {each["state"] for each in again["files"]} == {"same"}


def test_on_redis_6_2_the_names_of_views_and_reactions_count(here: Path) -> None:
    acl(here, "--server", "6.2")
    rules = lines(here)["shipments"]
    assert "+hset|{orders/3}:group:shipments.create_shipment_for_order " in rules
    assert "+hset|{orders/0}:cursors:shipments.shipments " in rules
    assert "+hset|{orders/0}:head" not in rules
    assert "+xadd|{orders" not in rules
    view = here / "shipments/src/service/views/shipments.py"
    view.write_text(view.read_text().replace('View("shipments")', 'View("ship" + "ments")'))
    assert re.fullmatch(
        r".*/shipments/src/service/views/shipments\.py:\d+: the name of this view cannot be told; "
        "write it as a text here",
        refused(here, "--server", "6.2"),
    )
    acl(here)  # patterns need no names


def test_on_redis_6_2_they_are_read_from_go_as_well(here: Path) -> None:
    shutil.rmtree(here / "shipments")
    words = ("shipments", "--language", "go", "--subscribe", "orders", "--no-input")
    subprocess.run([*FACTFOLD, "new", *words], cwd=here, check=True, capture_output=True)
    acl(here, "--server", "6.2")
    rules = lines(here)["shipments"]
    assert "+hset|{orders/3}:group:shipments.create_shipment_for_order " in rules
    assert "+hset|{orders/0}:cursors:shipments.shipments " in rules
    view = here / "shipments/internal/views/shipments.go"
    text = view.read_text()
    view.write_text(text.replace('NewView("shipments")', "NewView(name)"))
    line = text[: text.index('NewView("shipments")')].count("\n") + 1
    assert refused(here, "--server", "6.2").endswith(
        f"/shipments/internal/views/shipments.go:{line}: the name of this view cannot be told; "
        "write it as a text here"
    )


def test_names_that_would_be_two_users(here: Path) -> None:
    for name in ("operators", "default", "factfold-admin", "orders-reads"):
        command = [*FACTFOLD, "new", name, "--language", "python", "--no-input"]
        subprocess.run(command, cwd=here, check=True, capture_output=True)
        assert refused(here) == (
            f"no user can be named {name}, as a service is: factfold has one of that name"
        )
        shutil.rmtree(here / name)
    assert refused(here, "--trims", "order") == (
        "--trims order: there is no such service; here are orders, shipments"
    )
    assert not (here / "acl").exists()


def test_a_running_server_takes_the_users_up(here: Path) -> None:
    """Loading: the first time as the user there is, later as the admin."""
    file = here / "acl/users.acl"
    file.parent.mkdir()
    file.touch()
    with redis_server.start(extra=["--aclfile", str(file)]) as server:
        version = "7" if server_is_new(server) else "6.2"
        acl(here, "--server", version, "--redis", server.url)
        with redis.Redis.from_url(server.url) as first:
            assert first.acl_load()
        admin = (here / "acl/factfold-admin.url").read_text().strip()
        with redis.Redis.from_url(admin) as client:
            assert set(client.acl_users()) >= {"orders", "shipments", "default", *OPERATORS}
            acl(here, "--server", version, "--trims", "orders")
            assert client.acl_load()
        # Loading ends the connections of all users that the file names.
        with redis.Redis.from_url(admin) as client:
            rules = next(each for each in client.acl_list() if each.startswith("user orders "))
            assert "+xtrim" in rules
        with (
            redis.Redis.from_url(server.url) as nobody,
            pytest.raises(redis.AuthenticationError),
        ):
            nobody.ping()


def server_is_new(server: redis_server.RedisServer) -> bool:
    with redis.Redis.from_url(server.url) as client:
        return int(client.info()["redis_version"].split(".")[0]) >= 7

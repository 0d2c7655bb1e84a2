"""Settings: read from the environment, refused by name, secrets kept."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from factfold_chassis.errors import SettingsError
from factfold_chassis.settings import Settings


def test_defaults_without_any_variable() -> None:
    settings = Settings.from_environment({"PATH": "/bin", "FACTFOLD_LISTEN": ""})
    assert settings == Settings()
    assert settings.redis_url == "redis://127.0.0.1:6379/0"
    assert settings.listen == "127.0.0.1:50051"


def test_each_field_has_a_line_of_documentation() -> None:
    for item in dataclasses.fields(Settings):
        assert item.metadata["doc"].endswith("."), item.name


def test_values_are_converted() -> None:
    settings = Settings.from_environment(
        {
            "FACTFOLD_DRAIN_TIMEOUT": "2.5",
            "FACTFOLD_EXPECT_LOG": "True",
            "FACTFOLD_MAX_FACT_BYTES": "4096",
            "FACTFOLD_LOG_FORMAT": "JSON",
            "FACTFOLD_LOG_LEVEL": "debug",
            "FACTFOLD_LISTEN": "[::1]:0",
            "FACTFOLD_PROCESSES": "4",
            "FACTFOLD_SNAPSHOT_DIR": "/var/lib/snapshots",
            "FACTFOLD_SNAPSHOT_INTERVAL": "0.5",
        }
    )
    assert settings.drain_timeout == 2.5
    assert (settings.snapshot_dir, settings.snapshot_interval) == ("/var/lib/snapshots", 0.5)
    assert settings.expect_log is True
    assert settings.max_fact_bytes == 4096
    assert (settings.log_format, settings.log_level) == ("json", "DEBUG")
    assert (settings.listen, settings.processes) == ("[::1]:0", 4)


def test_auto_is_a_process_for_each_core_that_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    auto = {"FACTFOLD_PROCESSES": "Auto"}
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 5, 7})
    assert Settings.from_environment(auto).processes == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert Settings.from_environment(auto).processes == 8


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "FACTFOLD_REDIS_URI",
            "x",
            "FACTFOLD_REDIS_URI is not a setting: unset it, or did you mean FACTFOLD_REDIS_URL?",
        ),
        (
            "FACTFOLD_DRAIN_TIMEOUT",
            "soon",
            "FACTFOLD_DRAIN_TIMEOUT is 'soon': it must be a number of seconds above 0",
        ),
        (
            "FACTFOLD_DRAIN_TIMEOUT",
            "nan",
            "FACTFOLD_DRAIN_TIMEOUT is 'nan': it must be a number of seconds above 0",
        ),
        (
            "FACTFOLD_SNAPSHOT_INTERVAL",
            "0",
            "FACTFOLD_SNAPSHOT_INTERVAL is '0': it must be a number of seconds above 0",
        ),
        (
            "FACTFOLD_PROCESSES",
            "0",
            "FACTFOLD_PROCESSES is '0': it must be a whole number above 0, or auto",
        ),
        (
            "FACTFOLD_PROCESSES",
            "1.5",
            "FACTFOLD_PROCESSES is '1.5': it must be a whole number above 0, or auto",
        ),
        (
            "FACTFOLD_APPEND_QUEUE",
            "0",
            "FACTFOLD_APPEND_QUEUE is '0': it must be a whole number above 0",
        ),
        (
            "FACTFOLD_EXPECT_LOG",
            "maybe",
            "FACTFOLD_EXPECT_LOG is 'maybe': it must be one of true, false",
        ),
        (
            "FACTFOLD_LOG_FORMAT",
            "xml",
            "FACTFOLD_LOG_FORMAT is 'xml': it must be one of auto, json, text",
        ),
        (
            "FACTFOLD_LISTEN",
            "50051",
            "FACTFOLD_LISTEN is '50051': it must be host:port, such as 127.0.0.1:50051",
        ),
    ],
)
def test_refusals_say_what_to_do(name: str, value: str, message: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        Settings.from_environment({name: value})
    assert str(refusal.value) == message


@pytest.mark.parametrize(
    "url",
    [
        "http://h",
        "redis:///0",
        "redis://:pa/ss@host",
        "redis://:1/ss@host",
        "unix://:p/w@/sock",
        "redis://h?socket_timeout=x",
        "redis+cluster://h?db=3",
        "redis+cluster://h?foo=a",
        "redis://h?sentinel_password=a",
        "unix:///sock?foo=a",
        "redis+sentinel://h/facts?sentinel_passwort=a",
    ],
)
def test_a_url_that_cannot_be_read_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(SettingsError, match="FACTFOLD_REDIS_URL cannot be used") as refusal:
        Settings.from_environment({"FACTFOLD_REDIS_URL": url})
    assert url not in str(refusal.value)


def test_a_secret_is_read_from_a_file_and_never_shown(tmp_path: Path) -> None:
    secret = tmp_path / "url"
    secret.write_text("rediss://me:s%40cret@log.example:6380/2?password=s%40cret\n")
    settings = Settings.from_environment({"FACTFOLD_REDIS_URL_FILE": str(secret)})
    assert settings.redis_url.startswith("rediss://me:s%40cret@log.example:6380/2")
    assert settings.redis_address == "rediss://log.example:6380/2"
    assert "cret" not in repr(settings)
    assert set(settings.secrets) == {"s%40cret", "s@cret"}


def test_a_secret_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as refusal:
        Settings.from_environment({"FACTFOLD_REDIS_URL_FILE": str(tmp_path / "none")})
    assert str(refusal.value) == (
        "FACTFOLD_REDIS_URL_FILE names a file that cannot be read: No such file or directory"
    )


def test_a_secret_given_twice_is_refused() -> None:
    with pytest.raises(SettingsError, match="are both set: unset one of them"):
        Settings.from_environment(
            {"FACTFOLD_REDIS_URL": "redis://a", "FACTFOLD_REDIS_URL_FILE": "/x"}
        )


def test_only_secrets_have_a_file_form() -> None:
    with pytest.raises(SettingsError, match="FACTFOLD_LISTEN_FILE is not a setting"):
        Settings.from_environment({"FACTFOLD_LISTEN_FILE": "/x"})

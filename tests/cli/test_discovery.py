import json
from pathlib import Path

import pytest

from factfold_cli.discovery import ServiceFolder, discover
from factfold_cli.errors import Refused


def repository(path: Path, name: str, language: str = "python") -> None:
    (path / ".factfold").mkdir(parents=True)
    manifest = {
        "answers": {"service_slug": name},
        "files": {},
        "format": 1,
        "generator": "0",
        "language": language,
        "subscriptions": [],
    }
    (path / ".factfold" / "manifest.json").write_text(json.dumps(manifest))


def test_services_are_found_in_and_below_folders_by_name(tmp_path: Path) -> None:
    repository(tmp_path / "b" / "orders", "orders")
    repository(tmp_path / "a", "shipments", "go")
    repository(tmp_path / "a" / "inside", "inside")
    repository(tmp_path / ".hidden", "hidden")
    repository(tmp_path / "node_modules", "foreign")
    found = [
        ServiceFolder("orders", tmp_path / "b" / "orders", "python"),
        ServiceFolder("shipments", tmp_path / "a", "go"),
    ]
    assert discover([tmp_path]) == found
    assert discover([tmp_path / "b" / "orders", tmp_path]) == found


def test_none_and_two_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused) as none:
        discover([tmp_path])
    assert none.value.format_message() == (
        f"no service below {tmp_path}: make one with `factfold new`"
    )
    repository(tmp_path / "a", "orders")
    repository(tmp_path / "b", "orders")
    with pytest.raises(Refused) as two:
        discover([tmp_path])
    assert two.value.format_message() == (
        f"two services are named orders, in {tmp_path / 'a'} and {tmp_path / 'b'}: "
        "give the folder of one of them"
    )

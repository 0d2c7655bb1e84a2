"""What `factfold add` writes passes lint and types, and its tests once it is filled in."""

import re
from collections.abc import Callable
from pathlib import Path

from .conftest import Generated, factfold
from .test_checks import check

LONG = "Ab" * 30  # its snake case is the longest that 60 characters can have
STATIC = [
    ("ruff", "check", "--no-cache"),
    ("ruff", "format", "--check", "--no-cache"),
    ("mypy",),
]
CASE = """\
            case contract.ShipmentLost() as lost:
                yield contract.WatchShipmentsResponse(
                    position=change.position,
                    lost=lost,
                )
"""
BODIES = {
    "handlers/lose_shipment.py": """\
    event = contract.ShipmentLost(id=request.id, reason="gone")
    done = await call.append(event, expected_version=request.expected_version)
    return contract.LoseShipmentResponse(version=done.version)
""",
    "handlers/get_loss.py": """\
    row = call.rows(losses.TABLE).get(request.id)
    return contract.GetLossResponse(loss=row)
""",
    "folds/shipment_lost.py": """\
    if row is not None:
        row.version = fact.version
    return row
""",
    "reactions/mourn.py": "    return None\n",
    # The draft behind it is whole.
    "reactions/lose_for_order.py": "",
}


def test_what_is_added_can_be_filled_in(generate: Callable[..., Generated]) -> None:
    generate("orders")
    service = generate("shipments", "--subscribe", "orders")
    for arguments in (
        "rpc LoseShipment --field id:string --field expected_version:uint64"
        " --returns version:uint64",
        "event ShipmentLost --field reason:string",
        "view losses --from ShipmentLost",
        "rpc GetLoss --field id:string --returns loss:Loss",
        "reaction mourn --on ShipmentLost",
        "reaction lose_for_order --on OrderRenamed --appends ShipmentLost",
    ):
        factfold(service.root, "add", *arguments.split())
    make(service)
    static(service)
    assert failing(service) == [
        "tests/test_get_loss.py",
        "tests/test_lose_for_order.py",
        "tests/test_lose_shipment.py",
        "tests/test_mourn.py",
        "tests/test_shipment_lost.py",
        # Its own fold is whole, the other one of the event is not.
        "tests/test_shipment_lost_into_losses.py",
        # The event is among those that the watch gives out.
        "tests/test_watch.py",
    ]
    fill_in(service.root / "src/service")
    check(service)


def test_names_of_one_character_and_of_sixty(generate: Callable[..., Generated]) -> None:
    generate("orders")
    service = generate("z" * 60, "--aggregate", "Shipment", "--subscribe", "orders")
    field = "f" * 60
    for arguments in (
        f"event B --field {field}:string --field b:Timestamp",
        f"event {LONG} --key {field}",
        "view v --from B --from ShipmentCreated",
        f"view {'v' * 60} --row C{LONG[1:]} --from {LONG} --from B",
        f"view {'w' * 60} --row Shipment --from ShipmentRenamed",
        f"view x --from OrderRenamed --row D{LONG[1:]}",
        f"rpc A --field b:B --returns {field}:string",
        f"rpc C{LONG[1:]} --query --field {field}:{LONG}",
        "reaction r --on B",
        f"reaction {'r' * 60} --on {LONG} --appends {LONG}",
        f"reaction {'s' * 60} --on OrderCreated",
        f"reaction {'t' * 60} --on OrderCreated --appends B",
    ):
        factfold(service.root, "add", *arguments.split())
    make(service)
    static(service)


def make(service: Generated) -> None:
    done = service.python("hatch_build.py")
    assert done.returncode == 0, done.stderr


def static(service: Generated) -> None:
    for module, *arguments in STATIC:
        done = service.python("-m", module, *arguments)
        assert done.returncode == 0, f"{module}:\n{done.stdout}{done.stderr}"


def failing(service: Generated) -> list[str]:
    """The files of the service's tests in which one fails."""
    done = service.python("-m", "pytest", "-q", "-p", "no:cacheprovider")
    return sorted(set(re.findall(r"^FAILED (tests/\w+\.py)::", done.stdout, re.M)))


def fill_in(code: Path) -> None:
    """What the team writes in place of `raise`."""
    for name, body in BODIES.items():
        text = (code / name).read_text()
        raising = re.compile(r"    raise NotImplementedError\(.*?\n    \)\n", re.S)
        filled, count = raising.subn(body, text)
        assert count == 1
        if "losses." in body:
            filled = filled.replace(
                "from service import contract\n",
                "from service import contract\nfrom service.views import losses\n",
            )
        (code / name).write_text(filled)
    with (code / "handlers/watch_shipments.py").open("a") as watch:
        watch.write(CASE)

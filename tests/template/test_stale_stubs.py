"""A contract that is newer than its stubs is one line, with what mends it."""

from collections.abc import Callable

import pytest

from .conftest import Generated

HANDLER = """
from factfold_chassis import Command, command

from service import contract


@command
async def cancel_order(request: {0}, call: Command) -> {0}:
    return {0}()
"""
MEND = "protos/ has it, make the stubs anew: `python hatch_build.py`\n"


@pytest.mark.parametrize(
    ("name", "line"),
    [
        (
            "contract.CancelOrderRequest",
            "orders: the contract's stubs have no CancelOrderRequest: correct it, or if " + MEND,
        ),
        (
            "contract.GetOrderRequest",
            "orders: the handler cancel_order answers no RPC: "
            "name it after one of the contract's, or if " + MEND,
        ),
    ],
)
def test_a_name_that_the_stubs_lack(
    generate: Callable[..., Generated], name: str, line: str
) -> None:
    orders = generate("orders")
    (orders.root / "src/service/handlers/cancel_order.py").write_text(HANDLER.format(name))
    done = orders.python("-m", "service")
    assert done.returncode == 2
    assert done.stderr.splitlines(keepends=True)[-1:] == [line]
    assert "Traceback" not in done.stderr
    tested = orders.python("-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert tested.returncode
    assert line.removeprefix("orders: ").strip() in tested.stdout + tested.stderr
    typed = orders.python("-m", "mypy")
    assert (f'no attribute "{name.partition(".")[2]}"' in typed.stdout) == ("Cancel" in name)


def test_who_asks_whether_it_is_there_is_told(generate: Callable[..., Generated]) -> None:
    program = "from service import contract; print(hasattr(contract, 'CancelOrder'))"
    done = generate("orders").python("-c", program)
    assert (done.stdout, done.stderr) == ("False\n", "")

import uuid
from itertools import permutations

from factfold_chassis import Service
from factfold_chassis.testing import Folded, Running, fold_facts

import service.subscriptions.{{theirs.ident}} as theirs
import service.views.{{theirs.many}} as their_rows
import service.views.{{theirs.many}}_waiting as their_waiting
from service import contract
from service.views import {{cookiecutter.__plural_snake}}


def their(id: str) -> theirs.{{theirs.aggregate}}Created:
    return theirs.{{theirs.aggregate}}Created(id=id, name="one")


def our(id: str) -> contract.{{cookiecutter.aggregate}}Created:
    return contract.{{cookiecutter.aggregate}}Created(id=id, name="one")


def waiting(folded: Folded) -> list[str]:
    return sorted(folded.rows(their_waiting.TABLE))


def test_each_waits_until_it_has_one_of_ours(app: Service) -> None:
    folded = fold_facts(app, their("1"), their("2"))
    assert waiting(folded) == ["1", "2"]
    folded.fold(our("1"))
    assert waiting(folded) == ["2"]


def test_it_does_not_matter_which_stream_comes_first(app: Service) -> None:
    for facts in permutations([their("1"), our("1"), their("2"), our("3")]):
        assert waiting(fold_facts(app, *facts)) == ["2"]


def test_a_row_of_either_side_may_go(app: Service) -> None:
    folded = fold_facts(app, their("1"), our("1"))
    # As a fold does that returns None.
    folded.rows({{cookiecutter.__plural_snake}}.TABLE).put("1", None)
    assert waiting(folded) == ["1"]
    folded.rows(their_rows.TABLE).put("1", None)
    assert waiting(folded) == []


async def test_the_running_service_keeps_it(running: Running) -> None:
    await running.publish(their("1"), expected_version=0)
    # An answer itself, so the reaction leaves it alone.
    await running.publish(their("2"), expected_version=0, cause=uuid.uuid4())
    ours = running.rows({{cookiecutter.__plural_snake}}.TABLE)
    await running.eventually(lambda: "1" in ours)
    assert list(running.rows(their_waiting.TABLE)) == ["2"]

from factfold_chassis import Service
from factfold_chassis.testing import fold_facts

import service.subscriptions.{{theirs.ident}} as theirs
from service.views import {{theirs.many}}


def test_a_row_is_made(app: Service) -> None:
    event = theirs.{{theirs.aggregate}}Created(
        id="1",
        name="one",
    )
    rows = fold_facts(app, event).rows({{theirs.many}}.TABLE)
    assert rows.get("1") == event

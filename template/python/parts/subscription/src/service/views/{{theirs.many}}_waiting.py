"""Those of {{theirs.name}} that have none of ours yet. It is kept once a handler imports it."""

import service.subscriptions.{{theirs.ident}} as theirs
import service.views.{{theirs.many}} as their_rows
from service import contract
from service.views import {{cookiecutter.__plural_snake}}


def waiting(
    their: theirs.{{theirs.aggregate}}Created,
    our: contract.{{cookiecutter.aggregate}} | None,
) -> theirs.{{theirs.aggregate}}Created | None:
    return their if our is None else None


TABLE = {{cookiecutter.__plural_snake}}.VIEW.join(
    "{{theirs.many}}_waiting",
    left=their_rows.TABLE,
    right={{cookiecutter.__plural_snake}}.TABLE,
    on=lambda their: their.id,
    row=theirs.{{theirs.aggregate}}Created,
    combine=waiting,
)

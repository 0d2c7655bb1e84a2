"""What this service knows of the facts of {{theirs.name}}, by id."""

from factfold_chassis import Table, View

import service.subscriptions.{{theirs.ident}} as theirs

VIEW = View("{{theirs.many}}")

TABLE: Table[theirs.{{theirs.aggregate}}Created] = VIEW.table(
    "{{theirs.many}}",
    theirs.{{theirs.aggregate}}Created,
)

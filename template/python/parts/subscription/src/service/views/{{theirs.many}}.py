"""What this service knows of the facts of {{theirs.name}}, by id."""

from factfold_chassis import Table

import service.subscriptions.{{theirs.ident}} as theirs
from service.views.{{cookiecutter.__plural_snake}} import VIEW

# In the view of our own table: only tables of one view can be joined.
TABLE: Table[theirs.{{theirs.aggregate}}Created] = VIEW.table(
    "{{theirs.many}}",
    theirs.{{theirs.aggregate}}Created,
)

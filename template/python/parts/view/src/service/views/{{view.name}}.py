"""What the facts of one key come to, by key. It is kept once a fold or a handler imports it."""

from factfold_chassis import Table, View

from service import contract

# A table that is to be joined with another one must be of the same View.
VIEW = View("{{view.name}}")

TABLE: Table[contract.{{view.row}}] = VIEW.table(
    "{{view.name}}",
    contract.{{view.row}},
)

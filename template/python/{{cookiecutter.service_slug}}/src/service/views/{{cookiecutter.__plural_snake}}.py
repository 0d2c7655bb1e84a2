"""The present state of each one, by id."""

from factfold_chassis import Table, View

from service import contract

VIEW = View("{{cookiecutter.__plural_snake}}")

TABLE: Table[contract.{{cookiecutter.aggregate}}] = VIEW.table(
    "{{cookiecutter.__plural_snake}}",
    contract.{{cookiecutter.aggregate}},
)

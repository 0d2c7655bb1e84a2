from factfold_chassis import Fact, fold

from service import contract
from service.views import {{cookiecutter.__plural_snake}}


@fold(
    contract.{{cookiecutter.aggregate}}Renamed,
    into={{cookiecutter.__plural_snake}}.TABLE,
)
def {{cookiecutter.__aggregate_snake}}_renamed(
    row: contract.{{cookiecutter.aggregate}} | None,
    event: contract.{{cookiecutter.aggregate}}Renamed,
    fact: Fact,
) -> contract.{{cookiecutter.aggregate}} | None:
    if row is not None:
        row.name = event.name
        row.version = fact.version
    return row

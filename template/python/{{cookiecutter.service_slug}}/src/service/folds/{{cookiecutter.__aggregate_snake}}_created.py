from factfold_chassis import Fact, fold

from service import contract
from service.views import {{cookiecutter.__plural_snake}}


@fold(
    contract.{{cookiecutter.aggregate}}Created,
    into={{cookiecutter.__plural_snake}}.TABLE,
)
def {{cookiecutter.__aggregate_snake}}_created(
    row: contract.{{cookiecutter.aggregate}} | None,
    event: contract.{{cookiecutter.aggregate}}Created,
    fact: Fact,
) -> contract.{{cookiecutter.aggregate}} | None:
    return contract.{{cookiecutter.aggregate}}(
        id=event.id,
        name=event.name,
        version=fact.version,
    )

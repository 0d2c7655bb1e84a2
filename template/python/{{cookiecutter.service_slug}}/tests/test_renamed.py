from factfold_chassis import Service
from factfold_chassis.testing import fold_facts

from service import contract
from service.views import {{cookiecutter.__plural_snake}}


def test_the_row_has_the_new_name(app: Service) -> None:
    tables = fold_facts(
        app,
        contract.{{cookiecutter.aggregate}}Created(
            id="1",
            name="one",
        ),
        contract.{{cookiecutter.aggregate}}Renamed(
            id="1",
            name="two",
        ),
    )
    rows = tables.rows({{cookiecutter.__plural_snake}}.TABLE)
    assert rows.get("1") == contract.{{cookiecutter.aggregate}}(
        id="1",
        name="two",
        version=2,
    )

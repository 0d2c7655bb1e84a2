{{fold.imports}}from factfold_chassis import Service
from factfold_chassis.testing import fold_facts

{{fold.view}}from service import contract


def test_the_row_is_as_the_fact_says(app: Service) -> None:
    tables = fold_facts(
        app,
{{fold.before}}        {{fold.event}}({{fold.given}}),
    )
    rows = tables.rows({{fold.table}})
    assert rows.get({{fold.key}}) == {{fold.row}}({{fold.expected}})

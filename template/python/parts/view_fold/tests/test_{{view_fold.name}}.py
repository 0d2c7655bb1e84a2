from factfold_chassis import Service
from factfold_chassis.testing import fold_facts

{{view_fold.imports}}

def test_the_row_is_as_the_fact_says(app: Service) -> None:
    tables = fold_facts(
        app,
        {{view_fold.event}}({{view_fold.given}}),
    )
    rows = tables.rows(view.TABLE)
    assert rows.get("1") == contract.{{view_fold.row}}({{view_fold.expected}})

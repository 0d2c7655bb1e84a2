from factfold_chassis import Fact, fold

{{view_fold.imports}}

@fold(
    {{view_fold.event}},
    into=view.TABLE,
)
def {{view_fold.name}}(
    row: contract.{{view_fold.row}} | None,
    event: {{view_fold.event}},
    fact: Fact,
) -> contract.{{view_fold.row}} | None:
    if row is None:
        row = contract.{{view_fold.row}}()
{{view_fold.taken_over}}    return row

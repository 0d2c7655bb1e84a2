{{fold.imports}}from factfold_chassis import Fact, fold

{{fold.view}}from service import contract


@fold(
    {{fold.event}},
    into={{fold.table}},
)
def {{fold.function}}(
    row: {{fold.row}} | None,
    event: {{fold.event}},
    fact: Fact,
) -> {{fold.row}} | None:
    raise NotImplementedError(
        "{{fold.name}} changes nothing yet: write src/service/folds/{{fold.function}}.py",
    )

{{rpc.imports}}from factfold_chassis import Query, query
{{rpc.own}}

@query
def {{rpc.function}}(
    request: {{rpc.request}},
    call: Query,
) -> {{rpc.response}}:
    raise NotImplementedError(
        "{{rpc.name}} has no answer yet: write src/service/handlers/{{rpc.function}}.py",
    )

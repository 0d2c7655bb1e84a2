from collections.abc import AsyncIterator

{{rpc.imports}}from factfold_chassis import Watch, watch
{{rpc.own}}

@watch
async def {{rpc.function}}(
    request: {{rpc.request}},
    call: Watch,
) -> AsyncIterator[{{rpc.response}}]:
    raise NotImplementedError(
        "{{rpc.name}} has no answer yet: write src/service/handlers/{{rpc.function}}.py",
    )
    # What yields is a stream of answers.
    yield {{rpc.response}}()

{{rpc.imports}}from factfold_chassis import Command, command
{{rpc.own}}

@command
async def {{rpc.function}}(
    request: {{rpc.request}},
    call: Command,
) -> {{rpc.response}}:
    raise NotImplementedError(
        "{{rpc.name}} has no answer yet: write src/service/handlers/{{rpc.function}}.py",
    )

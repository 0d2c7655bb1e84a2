{{rpc.imports}}from factfold_chassis.testing import Running

from service import contract


async def test_changes_arrive(running: Running) -> None:
    stub = contract.{{rpc.service}}Stub(
        running.channel,
    )
{{rpc.given}}    request = {{rpc.request}}({{rpc.asked}})
    call = stub.{{rpc.name}}(request, timeout=10)
    answer = await anext(aiter(call))
    assert answer == {{rpc.response}}({{rpc.answered}})

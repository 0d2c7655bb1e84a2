{{rpc.imports}}from factfold_chassis.testing import Running

from service import contract


async def test_it_is_answered(running: Running) -> None:
    stub = contract.{{rpc.service}}Stub(
        running.channel,
    )
{{rpc.given}}    request = {{rpc.request}}({{rpc.asked}})
    answer = await stub.{{rpc.name}}(request)
    assert answer == {{rpc.response}}({{rpc.answered}})

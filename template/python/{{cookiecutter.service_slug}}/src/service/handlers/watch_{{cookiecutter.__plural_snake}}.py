from collections.abc import AsyncIterator

from factfold_chassis import Watch, watch

from service import contract


@watch
async def watch_{{cookiecutter.__plural_snake}}(
    request: contract.Watch{{cookiecutter.__plural}}Request,
    call: Watch,
) -> AsyncIterator[contract.Watch{{cookiecutter.__plural}}Response]:
    async for change in call.changes(after=request.after):
        match change.event:
            case contract.{{cookiecutter.aggregate}}Created() as created:
                yield contract.Watch{{cookiecutter.__plural}}Response(
                    position=change.position,
                    created=created,
                )
            case contract.{{cookiecutter.aggregate}}Renamed() as renamed:
                yield contract.Watch{{cookiecutter.__plural}}Response(
                    position=change.position,
                    renamed=renamed,
                )

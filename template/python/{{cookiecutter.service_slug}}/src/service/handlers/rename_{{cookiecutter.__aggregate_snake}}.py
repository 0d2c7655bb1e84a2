from factfold_chassis import Command, InvalidRequest, NotFound, command

from service import contract
from service.views import {{cookiecutter.__plural_snake}}


@command
async def rename_{{cookiecutter.__aggregate_snake}}(
    request: contract.Rename{{cookiecutter.aggregate}}Request,
    call: Command,
) -> contract.Rename{{cookiecutter.aggregate}}Response:
    if not request.name:
        raise InvalidRequest("name", "must not be empty")
    if request.expected_version < 1:
        raise InvalidRequest("expected_version", "must be the version that you read, 1 or more")
    rows = call.rows({{cookiecutter.__plural_snake}}.TABLE)
    if request.id not in rows:
        raise NotFound("{{cookiecutter.aggregate}}", request.id)
    event = contract.{{cookiecutter.aggregate}}Renamed(
        id=request.id,
        name=request.name,
    )
    done = await call.append(event, expected_version=request.expected_version)
    return contract.Rename{{cookiecutter.aggregate}}Response(
        id=done.event.id,
        version=done.version,
    )

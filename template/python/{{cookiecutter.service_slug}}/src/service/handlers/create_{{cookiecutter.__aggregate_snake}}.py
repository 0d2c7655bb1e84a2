from factfold_chassis import Command, InvalidRequest, command

from service import contract


@command
async def create_{{cookiecutter.__aggregate_snake}}(
    request: contract.Create{{cookiecutter.aggregate}}Request,
    call: Command,
) -> contract.Create{{cookiecutter.aggregate}}Response:
    if not request.name:
        raise InvalidRequest("name", "must not be empty")
    event = contract.{{cookiecutter.aggregate}}Created(
        id=call.new_id(),
        name=request.name,
    )
    done = await call.append(event, expected_version=0)
    return contract.Create{{cookiecutter.aggregate}}Response(
        id=done.event.id,
        version=done.version,
    )

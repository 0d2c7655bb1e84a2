from factfold_chassis import NotFound, Query, query

from service import contract
from service.views import {{cookiecutter.__plural_snake}}


@query
def get_{{cookiecutter.__aggregate_snake}}(
    request: contract.Get{{cookiecutter.aggregate}}Request,
    call: Query,
) -> contract.Get{{cookiecutter.aggregate}}Response:
    rows = call.rows({{cookiecutter.__plural_snake}}.TABLE)
    row = rows.get(request.id)
    if row is None:
        raise NotFound("{{cookiecutter.aggregate}}", request.id)
    return contract.Get{{cookiecutter.aggregate}}Response(item=row)

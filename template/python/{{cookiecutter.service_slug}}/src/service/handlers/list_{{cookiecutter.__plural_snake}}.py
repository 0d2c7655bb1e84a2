"""Pages as in AIP-158: a page may come short, only an empty next_page_token ends the list."""

from factfold_chassis import InvalidRequest, Query, query

from service import contract
from service.views import {{cookiecutter.__plural_snake}}

DEFAULT_PAGE = 50
LARGEST_PAGE = 1000


@query
def list_{{cookiecutter.__plural_snake}}(
    request: contract.List{{cookiecutter.__plural}}Request,
    call: Query,
) -> contract.List{{cookiecutter.__plural}}Response:
    if request.page_size < 0:
        raise InvalidRequest("page_size", "must not be negative")
    size = min(request.page_size or DEFAULT_PAGE, LARGEST_PAGE)
    rows = call.rows({{cookiecutter.__plural_snake}}.TABLE)
    try:
        page = rows.page(size, request.page_token)
    except ValueError as error:
        raise InvalidRequest("page_token", str(error)) from error
    return contract.List{{cookiecutter.__plural}}Response(
        items=page.rows,
        next_page_token=page.next_token,
        position=call.position({{cookiecutter.__plural_snake}}.TABLE),
    )

package handlers

import (
	"context"

	"factfold/chassis"

	contract "service/gen/{{cookiecutter.__package_path}}"
	"service/internal/views"
)

const (
	defaultPage = 50
	largestPage = 1000
)

// List{{cookiecutter.__go_plural}} has pages as in AIP-158: one may come short, only an empty next_page_token
// ends the list.
func (*service) List{{cookiecutter.__go_plural}}(
	ctx context.Context,
	request *contract.List{{cookiecutter.__go_plural}}Request,
) (*contract.List{{cookiecutter.__go_plural}}Response, error) {
	if request.GetPageSize() < 0 {
		return nil, chassis.InvalidRequest("page_size", "must not be negative")
	}
	size := int(min(request.GetPageSize(), largestPage))
	if size == 0 {
		size = defaultPage
	}
	call := chassis.QueryFrom(ctx)
	page, err := chassis.RowsOf(call, views.{{cookiecutter.__go_plural}}).Page(size, request.GetPageToken())
	if err != nil {
		return nil, chassis.InvalidRequest("page_token", err.Error())
	}
	return &contract.List{{cookiecutter.__go_plural}}Response{
		Items:         page.Rows,
		NextPageToken: page.NextToken,
		Position:      call.Position(views.{{cookiecutter.__go_plural}}),
	}, nil
}

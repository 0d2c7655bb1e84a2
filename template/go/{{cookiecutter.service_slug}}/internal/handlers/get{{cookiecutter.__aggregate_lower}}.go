package handlers

import (
	"context"

	"factfold/chassis"

	contract "service/gen/{{cookiecutter.__package_path}}"
	"service/internal/views"
)

func (*service) Get{{cookiecutter.__go_aggregate}}(
	ctx context.Context,
	request *contract.Get{{cookiecutter.__go_aggregate}}Request,
) (*contract.Get{{cookiecutter.__go_aggregate}}Response, error) {
	call := chassis.QueryFrom(ctx)
	row, ok := chassis.RowsOf(call, views.{{cookiecutter.__go_plural}}).Get(request.GetId())
	if !ok {
		return nil, chassis.NotFound("{{cookiecutter.aggregate}}", request.GetId())
	}
	return &contract.Get{{cookiecutter.__go_aggregate}}Response{Item: row}, nil
}

package handlers

import (
	"context"

	"factfold/chassis"

	contract "service/gen/{{cookiecutter.__package_path}}"
	"service/internal/views"
)

func (*service) Rename{{cookiecutter.__go_aggregate}}(
	ctx context.Context,
	request *contract.Rename{{cookiecutter.__go_aggregate}}Request,
) (*contract.Rename{{cookiecutter.__go_aggregate}}Response, error) {
	if request.GetName() == "" {
		return nil, chassis.InvalidRequest("name", "must not be empty")
	}
	if request.GetExpectedVersion() < 1 {
		return nil, chassis.InvalidRequest("expected_version", "must be the version that you read, 1 or more")
	}
	call := chassis.CommandFrom(ctx)
	if _, ok := chassis.RowsOf(call, views.{{cookiecutter.__go_plural}}).Get(request.GetId()); !ok {
		return nil, chassis.NotFound("{{cookiecutter.aggregate}}", request.GetId())
	}
	event := &contract.{{cookiecutter.__go_aggregate}}Renamed{
		Id:   request.GetId(),
		Name: request.GetName(),
	}
	done, err := call.Append(ctx, event, chassis.ExpectedVersion(request.GetExpectedVersion()))
	if err != nil {
		return nil, err
	}
	return &contract.Rename{{cookiecutter.__go_aggregate}}Response{
		Id:      event.GetId(),
		Version: done.Version,
	}, nil
}

package handlers

import (
	"context"

	"factfold/chassis"

	contract "service/gen/{{cookiecutter.__package_path}}"
)

func (*service) Create{{cookiecutter.__go_aggregate}}(
	ctx context.Context,
	request *contract.Create{{cookiecutter.__go_aggregate}}Request,
) (*contract.Create{{cookiecutter.__go_aggregate}}Response, error) {
	if request.GetName() == "" {
		return nil, chassis.InvalidRequest("name", "must not be empty")
	}
	call := chassis.CommandFrom(ctx)
	event := &contract.{{cookiecutter.__go_aggregate}}Created{
		Id:   call.NewID(),
		Name: request.GetName(),
	}
	done, err := call.Append(ctx, event, chassis.ExpectedVersion(0))
	if err != nil {
		return nil, err
	}
	return &contract.Create{{cookiecutter.__go_aggregate}}Response{
		Id:      event.GetId(),
		Version: done.Version,
	}, nil
}

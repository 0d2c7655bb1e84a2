package handlers

import (
	"google.golang.org/grpc"

	"factfold/chassis"

	contract "service/gen/{{cookiecutter.__package_path}}"
)

func (*service) Watch{{cookiecutter.__go_plural}}(
	request *contract.Watch{{cookiecutter.__go_plural}}Request,
	stream grpc.ServerStreamingServer[contract.Watch{{cookiecutter.__go_plural}}Response],
) error {
	ctx := stream.Context()
	for change, err := range chassis.WatchFrom(ctx).Changes(ctx, request.GetAfter()) {
		if err != nil {
			return err
		}
		response := &contract.Watch{{cookiecutter.__go_plural}}Response{Position: change.Position}
		switch event := change.Event.(type) {
		case *contract.{{cookiecutter.__go_aggregate}}Created:
			response.Change = &contract.Watch{{cookiecutter.__go_plural}}Response_Created{Created: event}
		case *contract.{{cookiecutter.__go_aggregate}}Renamed:
			response.Change = &contract.Watch{{cookiecutter.__go_plural}}Response_Renamed{Renamed: event}
		default:
			continue
		}
		if err := stream.Send(response); err != nil {
			return err
		}
	}
	return nil
}

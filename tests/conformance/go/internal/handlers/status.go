package handlers

import (
	"context"

	"factfold/chassis"

	conformance "service/gen/factfold/v1"
)

func (*probe) Status(
	ctx context.Context, _ *conformance.StatusRequest,
) (*conformance.StatusResponse, error) {
	call := chassis.QueryFrom(ctx)
	return &conformance.StatusResponse{
		Instance:     call.Instance(),
		SpansDropped: uint64(call.SpansDropped()),
	}, nil
}

package handlers

import (
	"context"
	"crypto/sha256"
	"errors"

	"google.golang.org/protobuf/proto"

	"factfold/chassis"

	conformance "service/gen/factfold/v1"
	"service/internal/views"
)

func (*probe) Dump(
	ctx context.Context, request *conformance.DumpRequest,
) (*conformance.DumpResponse, error) {
	call := chassis.QueryFrom(ctx)
	response := &conformance.DumpResponse{Position: call.Position(views.Inputs)}
	err := errors.Join(
		dump(call, request, response, "inputs", views.Inputs),
		dump(call, request, response, "outputs", views.Outputs),
		dump(call, request, response, "moves", views.Moves),
		dump(call, request, response, "joined", views.Joined),
		dump(call, request, response, "groups", views.Groups),
	)
	return response, err
}

// dump adds a table to the response; its rows come in the order of their keys' bytes.
func dump[R chassis.Message](
	call *chassis.Query, request *conformance.DumpRequest, response *conformance.DumpResponse,
	name string, table *chassis.Table[R],
) error {
	rows := chassis.RowsOf(call, table)
	dumped := &conformance.DumpResponse_Table{Name: name, Rows: uint64(rows.Len())}
	digest := sha256.New()
	for key, row := range rows.All() {
		value, err := proto.MarshalOptions{Deterministic: true}.Marshal(row)
		if err != nil {
			return err
		}
		for _, part := range [][]byte{[]byte(key), {0}, value, {0}} {
			digest.Write(part)
		}
		if !request.GetHashesOnly() {
			dumped.Row = append(dumped.Row, &conformance.DumpResponse_Row{Key: key, Value: value})
		}
	}
	dumped.Sha256 = digest.Sum(nil)
	response.Tables = append(response.Tables, dumped)
	return nil
}

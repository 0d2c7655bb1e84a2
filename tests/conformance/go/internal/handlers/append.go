package handlers

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"factfold/chassis"

	conformance "service/gen/factfold/v1"
	contract "service/gen/probe/v1"
	"service/internal/views"
)

func (*probe) Append(
	ctx context.Context, request *conformance.AppendRequest,
) (*conformance.AppendResponse, error) {
	return appended(ctx, chassis.CommandFrom(ctx), request)
}

func (*probe) AppendMany(
	ctx context.Context, request *conformance.AppendManyRequest,
) (*conformance.AppendManyResponse, error) {
	call := chassis.CommandFrom(ctx)
	units, outcomes := request.GetUnits(), make([]*conformance.AppendOutcome, len(request.GetUnits()))
	// The units of one key are appended one after the other: their numbers rise.
	of := map[string][]int{}
	for i, unit := range units {
		of[unit.GetKey()] = append(of[unit.GetKey()], i)
	}
	var keys sync.WaitGroup
	for _, places := range of {
		keys.Go(func() {
			for _, i := range places {
				outcomes[i] = outcome(ctx, call, units[i])
			}
		})
	}
	keys.Wait()
	return &conformance.AppendManyResponse{Outcomes: outcomes}, nil
}

func outcome(
	ctx context.Context, call *chassis.Command, unit *conformance.AppendRequest,
) *conformance.AppendOutcome {
	done, err := appended(ctx, call, unit)
	if err != nil {
		refused := status.Convert(err)
		return &conformance.AppendOutcome{Code: int32(refused.Code()), Message: refused.Message()}
	}
	return &conformance.AppendOutcome{Appended: done}
}

func appended(
	ctx context.Context, call *chassis.Command, request *conformance.AppendRequest,
) (*conformance.AppendResponse, error) {
	if wait := time.Duration(request.GetSleepMs()) * time.Millisecond; wait > 0 {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(wait):
		}
	}
	var options []chassis.AppendOption
	if request.GetStream() == "moves" {
		expected := request.GetExpectedVersion()
		if request.ExpectedVersion == nil {
			row, _ := chassis.RowsOf(call, views.Moves).Get(request.GetKey())
			expected = row.GetVersion()
		}
		options = append(options, chassis.ExpectedVersion(expected))
	}
	done, err := call.AppendAll(ctx, events(request), options...)
	if err != nil {
		return nil, err
	}
	return &conformance.AppendResponse{
		Position: done.Position.String(),
		Version:  done.Version,
		Repeated: done.Repeated,
	}, nil
}

func events(request *conformance.AppendRequest) []proto.Message {
	payload := make([]byte, request.GetPayloadBytes())
	made := make([]proto.Message, max(request.GetFacts(), 1))
	for i := range made {
		number := request.GetFirst() + uint64(i)
		if request.GetStream() == "moves" {
			made[i] = &contract.Moved{
				Key:     request.GetKey(),
				Number:  number,
				Payload: payload,
				Group:   request.GetGroup(),
				Amount:  request.GetAmount(),
				To:      request.GetTo(),
			}
		} else {
			made[i] = &contract.Input{
				Key:     request.GetKey(),
				Number:  number,
				Payload: payload,
				Do:      request.GetDo(),
			}
		}
	}
	return made
}

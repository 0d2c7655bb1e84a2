"""What a team writes in Go while its service grows."""

from dataclasses import dataclass
from pathlib import Path

from . import in_go
from .story import Story

HANDLER = """\
package handlers

import (
	"context"

	"factfold/chassis"

	contract "service/gen/acme/orders/v1"
	"service/internal/views"
)

// CancelOrder appends that an order is no longer wanted.
func (*service) CancelOrder(
	ctx context.Context,
	request *contract.CancelOrderRequest,
) (*contract.CancelOrderResponse, error) {
	call := chassis.CommandFrom(ctx)
	order, ok := chassis.RowsOf(call, views.Orders).Get(request.GetId())
	if !ok {
		return nil, chassis.NotFound("Order", request.GetId())
	}
	event := &contract.OrderRenamed{
		Id:   request.GetId(),
		Name: order.GetName() + " (cancelled)",
	}
	done, err := call.Append(ctx, event, chassis.ExpectedVersion(order.GetVersion()))
	if err != nil {
		return nil, err
	}
	return &contract.CancelOrderResponse{Version: done.Version}, nil
}
"""
RENAMED = """\
	event := &contract.OrderRenamed{
		Id:   request.GetId(),
		Name: order.GetName() + " (cancelled)",
	}
"""
CANCELLED = """\
	event := &contract.OrderCancelled{
		Id:     request.GetId(),
		Reason: request.GetReason(),
	}
"""
HANDLER_TEST = """\
package handlers_test

import (
	"testing"

	"google.golang.org/grpc/codes"

	"factfold/chassis"

	contract "service/gen/acme/orders/v1"
)

func TestCancelOrderIsDone(t *testing.T) {
	running, client := run(t)
	running.Publish(t.Context(), &contract.OrderCreated{Id: "1"}, chassis.At(0))
	request := &contract.CancelOrderRequest{Id: "1", Reason: "rain"}
	done, err := client.CancelOrder(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	same(t, done, &contract.CancelOrderResponse{Version: 2})
}

func TestOnlyWhatExistsIsCancelled(t *testing.T) {
	_, client := run(t)
	_, err := client.CancelOrder(t.Context(), &contract.CancelOrderRequest{Id: "1"})
	refused(t, err, codes.NotFound)
}
"""
FOLD = """\
	if row != nil {
		row.Version = fact.Version()
	}
	return row
"""
WATCHED = """\
		case *contract.OrderCancelled:
			response.Change = &contract.WatchOrdersResponse_Cancelled{Cancelled: event}
"""
OTHERS = "		default:\n"
HANDLERS = "internal/handlers"


@dataclass(frozen=True)
class InGo:
    folder: Path

    def make(self, name: str) -> Path:
        return in_go.made(self.folder, name)

    def check(self, root: Path) -> None:
        in_go.run(root, "go", "generate", "./...")
        assert in_go.run(root, "gofmt", "-l", "cmd", "internal", "tools") == ""
        in_go.run(root, "go", "vet", "./...")
        in_go.run(root, "go", "test", "./...")

    def cancel(self, story: Story) -> None:
        story.write(f"{HANDLERS}/cancelorder.go", HANDLER)
        story.write(f"{HANDLERS}/cancelorder_test.go", HANDLER_TEST)

    def fold(self, story: Story) -> None:
        _fill_in(story, "internal/folds/ordercancelled.go", FOLD)
        story.replace(f"{HANDLERS}/cancelorder.go", RENAMED, CANCELLED)
        story.replace(f"{HANDLERS}/watchorders.go", OTHERS, WATCHED + OTHERS)

    def refund(self, story: Story) -> None:
        _fill_in(story, "internal/reactions/refundorder.go", "\treturn nil, nil\n")


def _fill_in(story: Story, path: str, body: str) -> None:
    story.fill_in(path, "\tpanic(", ")\n", body)

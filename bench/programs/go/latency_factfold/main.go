// From the call of a command to its fact in the view of another process, which is this one; one at a
// time.
//
// usage: latency_factfold PROGRAM REDIS_URL
package main

import (
	"context"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"

	"factfold/chassis"
	"factfold/chassis/bench/turns"
	"service/gen/acme/orders/v1"
)

func main() {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	program, url := os.Args[1], os.Args[2]
	ctx := context.Background()
	channel := turns.Serving(program, "FACTFOLD_REDIS_URL="+url, "OTEL_SDK_DISABLED=true")
	client := ordersv1.NewOrderServiceClient(channel)
	folded := follow(ctx, url)
	turns.Take(func(limit time.Duration) turns.Answer {
		return turns.Latency(limit, func() time.Duration {
			called := time.Now()
			turns.Must(client.CreateOrder(ctx, &ordersv1.CreateOrderRequest{Name: "Eight pallets of tiles"}))
			return (<-folded).Sub(called)
		})
	})
}

// follow is when a view of orders has folded each fact.
func follow(ctx context.Context, url string) <-chan time.Time {
	folded := make(chan time.Time, 1)
	orders := chassis.NewTable[*ordersv1.Order](chassis.NewView("orders"), "orders")
	var caughtUp atomic.Bool
	created := func(_ *ordersv1.Order, event *ordersv1.OrderCreated, fact *chassis.Fact) *ordersv1.Order {
		if caughtUp.Load() {
			folded <- time.Now()
		}
		return &ordersv1.Order{Id: event.GetId(), Name: event.GetName(), Version: fact.Version()}
	}
	settings := chassis.DefaultSettings()
	settings.RedisURL, settings.Listen = url, "127.0.0.1:0"
	running := turns.Must(chassis.Start(ctx, chassis.Service{
		Name:          "reader",
		Subscriptions: []protoreflect.FileDescriptor{ordersv1.File_acme_orders_v1_contract_proto},
		Folds:         []chassis.Fold{chassis.NewFold(orders, created)},
	}, settings))
	turns.Check(running.Ready(ctx))
	caughtUp.Store(true)
	return folded
}

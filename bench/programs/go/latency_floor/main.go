// The two round trips below a command: a bare gRPC call, and XADD until a blocked XREAD has it.
//
// usage: latency_floor PROGRAM REDIS_URL
package main

import (
	"context"
	"os"
	"time"

	"github.com/redis/go-redis/v9"

	"factfold/chassis/bench/turns"
	"service/gen/acme/orders/v1"
)

const key = "floor"

func main() {
	program, client := os.Args[1], turns.Client(os.Args[2])
	ctx := context.Background()
	orders := ordersv1.NewOrderServiceClient(turns.Serving(program))
	request := &ordersv1.CreateOrderRequest{Name: "Eight pallets of tiles"}
	read := make(chan time.Time, 1)
	turns.Check(client.Del(ctx, key).Err()) // what another floor has added there is not read
	go follow(ctx, client, read)
	call := func() time.Duration {
		called := time.Now()
		turns.Must(orders.CreateOrder(ctx, request))
		return time.Since(called)
	}
	add := func() time.Duration {
		called := time.Now()
		turns.Check(client.XAdd(ctx, &redis.XAddArgs{Stream: key, Values: []any{
			"type", "acme.orders.v1.OrderCreated", "key", "7c5e0c3e-1a52-5d4e-9d0e-0d5a4a3c7f10",
			"meta", make([]byte, 60), "data", make([]byte, 60),
		}}).Err())
		return (<-read).Sub(called)
	}
	turns.Take(func(limit time.Duration) turns.Answer {
		calls, adds := turns.Latency(limit/2, call), turns.Latency(limit/2, add)
		rpc, log := calls["value"].(float64), adds["value"].(float64)
		return turns.Answer{
			"value": rpc + log, "p99": calls["p99"].(float64) + adds["p99"].(float64),
			"samples": min(calls["samples"].(int), adds["samples"].(int)), "rpc": rpc, "log": log,
		}
	})
}

func follow(ctx context.Context, client *redis.Client, read chan<- time.Time) {
	for after := "0"; ; {
		found := turns.Must(client.XRead(ctx, &redis.XReadArgs{Streams: []string{key, after}, Block: 0}).Result())
		for _, message := range found[0].Messages {
			read <- time.Now()
			after = message.ID
		}
	}
}

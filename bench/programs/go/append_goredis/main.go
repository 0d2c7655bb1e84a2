// Appends with go-redis' XAdd, as its docs show it.
//
// usage: append_goredis URL WORK
//
//	callers   64 of them, each awaits one XADD, again and again
//	pipeline  16 callers, each awaits a pipeline of 100 XADDs, again and again
package main

import (
	"context"
	"os"
	"time"

	"github.com/redis/go-redis/v9"

	"factfold/chassis/bench/turns"
)

const pipeline = 100

func main() {
	rdb, work := turns.Client(os.Args[1]), os.Args[2]
	ctx := context.Background()
	made := turns.Made()
	entry := func(number int) *redis.XAddArgs {
		fields := made[number%turns.Keys]
		return &redis.XAddArgs{Stream: "parcels", Values: map[string]interface{}{
			"type": fields.Type, "key": fields.Key, "meta": fields.Meta, "data": fields.Data,
		}}
	}
	one := func(number int) int {
		turns.Must(rdb.XAdd(ctx, entry(number)).Result())
		return 1
	}
	many := func(number int) int {
		turns.Must(rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
			for at := range pipeline {
				pipe.XAdd(ctx, entry(number+at))
			}
			return nil
		}))
		return pipeline
	}
	turns.Take(func(limit time.Duration) turns.Answer {
		turns.Empty(rdb)
		if work == "pipeline" {
			return turns.Appended(limit, 16, many)
		}
		return turns.Appended(limit, 64, one)
	})
}

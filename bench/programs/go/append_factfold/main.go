// Appends through the chassis' append path: in the log once, whatever was retried.
//
// usage: append_factfold URL WORK
//
//	callers  64 of them, each appends one fact and awaits its position, again and again
//	units    16 callers, each appends 100 facts of one key, all or nothing
package main

import (
	"context"
	"os"
	"slices"
	"time"

	"factfold/chassis"
	"factfold/chassis/bench/declared"
	"factfold/chassis/bench/turns"
	"factfold/chassis/internal/contract"
	"factfold/chassis/internal/redislog"
)

const unit = 100

func main() {
	url, work := os.Args[1], os.Args[2]
	client := turns.Client(url)
	callers, each := 64, 1
	if work == "units" {
		callers, each = 16, unit
	}
	var facts [][]redislog.NewFact
	for _, made := range turns.Made() {
		fact := redislog.NewFact{Type: made.Type, Key: made.Key, Meta: made.Meta, Data: made.Data}
		facts = append(facts, slices.Repeat([]redislog.NewFact{fact}, each))
	}
	turns.Take(func(limit time.Duration) turns.Answer {
		turns.Empty(client)
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		appender := appending(ctx, url)
		turns.Must(appender.Append(ctx, facts[0])) // it is connected
		return turns.Appended(limit, callers, func(number int) int {
			turns.Must(appender.Append(ctx, facts[number%turns.Keys]))
			return each
		})
	})
}

func appending(ctx context.Context, url string) *redislog.Appender {
	redis, settings := redislog.New(turns.Must(redislog.ParseURL(url))), chassis.DefaultSettings()
	stream := turns.Must(contract.New(declared.Files, nil)).OwnStreams()[0]
	expected := func() string { return "" }
	epochs := turns.Must(redislog.CreateStream(ctx, redis, stream.Name, stream.Partitions, expected))
	appender := redislog.NewAppender(redis, stream.Name, epochs, redislog.AppendOptions{
		Timeout: settings.AppendTimeout, Limit: settings.AppendQueue, MaxFactBytes: settings.MaxFactBytes,
		Replicas: redislog.ReplicasWithin(0, settings.AppendTimeout), Alarm: func(text string) { panic(text) },
	})
	go appender.Run(ctx)
	return appender
}

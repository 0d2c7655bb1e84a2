// Rebuild with Watermill as its getting started guide shows it: Subscribe to a Redis stream with
// a consumer group, range over the messages, parse, put into a map, Ack.
//
// usage: watermill HOST:PORT STREAM MESSAGES; then as every contender, see bench/rounds.py
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-redisstream/pkg/redisstream"
	"github.com/redis/go-redis/v9"
	"google.golang.org/protobuf/proto"

	"bench/watermill/pb"
)

func main() {
	client := redis.NewClient(&redis.Options{Addr: os.Args[1]})
	stream := os.Args[2]
	var size int
	if _, err := fmt.Sscan(os.Args[3], &size); err != nil {
		panic(err)
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var seconds float64
		if _, err := fmt.Sscanf(lines.Text(), "turn %f", &seconds); err != nil {
			panic(err)
		}
		limit := time.Duration(seconds * float64(time.Second))
		handled, spent := 0, time.Duration(0)
		for spent < limit {
			some, soLong := read(client, stream, size, limit-spent)
			handled += some
			spent += soLong
		}
		fmt.Printf("{\"value\": %.1f}\n", float64(handled)/spent.Seconds())
	}
}

// read handles the backlog from its start, with a group of its own; messages, and how long it took.
func read(client *redis.Client, stream string, size int, limit time.Duration) (int, time.Duration) {
	subscriber, err := redisstream.NewSubscriber(
		redisstream.SubscriberConfig{Client: client, ConsumerGroup: watermill.NewUUID()},
		watermill.NopLogger{},
	)
	if err != nil {
		panic(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	began := time.Now()
	end := time.After(limit)
	messages, err := subscriber.Subscribe(ctx, stream)
	if err != nil {
		panic(err)
	}
	parcels := map[string]*pb.ParcelMoved{}
	for handled := 0; ; handled++ {
		if handled == size {
			return handled, time.Since(began)
		}
		select {
		case <-end:
			return handled, time.Since(began)
		case message := <-messages:
			event := &pb.ParcelMoved{}
			if err := proto.Unmarshal(message.Payload, event); err != nil {
				panic(err)
			}
			parcels[event.Id] = event
			message.Ack()
		}
	}
}

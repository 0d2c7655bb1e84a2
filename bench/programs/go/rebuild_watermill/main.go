// Rebuild with Watermill as its getting started guide shows it: Subscribe to a Redis stream with
// a consumer group, range over the messages, parse, put into a map, Ack.
//
// usage: rebuild_watermill URL STREAM MESSAGES
package main

import (
	"context"
	"os"
	"strconv"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-redisstream/pkg/redisstream"
	"github.com/redis/go-redis/v9"
	"google.golang.org/protobuf/proto"

	"factfold/chassis/bench/pb"
	"factfold/chassis/bench/turns"
)

func main() {
	client, stream := turns.Client(os.Args[1]), os.Args[2]
	size := turns.Must(strconv.Atoi(os.Args[3]))
	turns.Take(func(limit time.Duration) turns.Answer {
		handled, spent := 0, time.Duration(0)
		for spent < limit {
			some, soLong := read(client, stream, size, limit-spent)
			handled += some
			spent += soLong
		}
		return turns.Answer{"value": float64(handled) / spent.Seconds()}
	})
}

// read handles the backlog from its start, with a group of its own; messages, and how long it took.
func read(client *redis.Client, stream string, size int, limit time.Duration) (int, time.Duration) {
	subscriber := turns.Must(redisstream.NewSubscriber(
		redisstream.SubscriberConfig{Client: client, ConsumerGroup: watermill.NewUUID()},
		watermill.NopLogger{},
	))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	began := time.Now()
	end := time.After(limit)
	messages := turns.Must(subscriber.Subscribe(ctx, stream))
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
			turns.Check(proto.Unmarshal(message.Payload, event))
			parcels[event.GetId()] = event
			message.Ack()
		}
	}
}

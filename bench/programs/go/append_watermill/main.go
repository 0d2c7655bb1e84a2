// Appends with Watermill's publisher, as its docs show it: 64 callers, a message each.
//
// usage: append_watermill URL
package main

import (
	"os"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-redisstream/pkg/redisstream"
	"github.com/ThreeDotsLabs/watermill/message"

	"factfold/chassis/bench/turns"
)

func main() {
	client := turns.Client(os.Args[1])
	publisher := turns.Must(redisstream.NewPublisher(
		redisstream.PublisherConfig{Client: client}, watermill.NopLogger{},
	))
	made := turns.Made()
	turns.Take(func(limit time.Duration) turns.Answer {
		turns.Empty(client)
		return turns.Appended(limit, 64, func(number int) int {
			msg := message.NewMessage(watermill.NewUUID(), made[number%turns.Keys].Data)
			turns.Check(publisher.Publish("parcels", msg))
			return 1
		})
	})
}

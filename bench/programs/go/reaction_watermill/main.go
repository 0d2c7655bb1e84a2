// A handler of Watermill's router, as its docs show it: consume, handle, publish, acknowledge.
//
// Each turn is a new group, and an empty stream of answers.
//
// usage: reaction_watermill URL STREAM MESSAGES
package main

import (
	"context"
	"os"
	"strconv"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-redisstream/pkg/redisstream"
	"github.com/ThreeDotsLabs/watermill/message"
	"google.golang.org/protobuf/proto"

	"factfold/chassis/bench/answers"
	"factfold/chassis/bench/pb"
	"factfold/chassis/bench/turns"
)

const out = "watermill-answers"

func main() {
	client, stream, logger := turns.Client(os.Args[1]), os.Args[2], watermill.NopLogger{}
	size := turns.Must(strconv.Atoi(os.Args[3]))
	turns.Take(func(limit time.Duration) turns.Answer {
		turns.Check(client.Del(context.Background(), out).Err())
		// The router closes both; so they get a client that is theirs.
		its := turns.Client(os.Args[1])
		subscriber := turns.Must(redisstream.NewSubscriber(
			redisstream.SubscriberConfig{Client: its, ConsumerGroup: watermill.NewUUID()}, logger,
		))
		publisher := turns.Must(redisstream.NewPublisher(redisstream.PublisherConfig{Client: its}, logger))
		router := turns.Must(message.NewRouter(message.RouterConfig{}, logger))
		router.AddHandler("charge", stream, subscriber, out, publisher, charge)
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- router.Run(ctx) }()
		answer := turns.Growth(limit, int64(size), client, out)
		cancel()
		turns.Check(<-ended)
		return answer
	})
}

func charge(msg *message.Message) ([]*message.Message, error) {
	event := &pb.ParcelMoved{}
	if err := proto.Unmarshal(msg.Payload, event); err != nil {
		return nil, err
	}
	data, err := proto.Marshal(&answers.ParcelCharged{
		Id: event.GetId(), Carrier: event.GetCarrier(), Cents: event.GetWeight() / 10,
	})
	return []*message.Message{message.NewMessage(watermill.NewUUID(), data)}, err
}

// A reaction of a service: each fact of a stream is answered with one event of its own stream.
//
// Each turn is a service of another name, so a new group that begins at the first fact. Its own
// stream is made anew. What is in it counts, from the first answers on.
//
// usage: reaction_factfold URL FACTS
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/reflect/protoreflect"

	"factfold/chassis"
	"factfold/chassis/bench/answers"
	"factfold/chassis/bench/declared"
	"factfold/chassis/bench/pb"
	"factfold/chassis/bench/turns"
)

const partitions = 4

func main() {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	settings := chassis.DefaultSettings()
	settings.RedisURL, settings.Listen = os.Args[1], "127.0.0.1:0"
	size := turns.Must(strconv.Atoi(os.Args[2]))
	client, ctx := turns.Client(settings.RedisURL), context.Background()
	var logs []string
	for partition := range partitions {
		logs = append(logs, fmt.Sprintf("{charges/%d}:log", partition))
	}
	turns.Take(func(limit time.Duration) turns.Answer {
		old := turns.Must(client.Keys(ctx, "{charges/*").Result())
		turns.Check(client.Del(ctx, append(old, "charges")...).Err())
		running := turns.Must(chassis.Start(ctx, chassis.Service{
			Name:          "charging-" + uuid.NewString()[:8],
			Contract:      []protoreflect.FileDescriptor{answers.File_answers_proto},
			Subscriptions: declared.Files,
			Reactions:     []chassis.Reaction{chassis.NewReaction("charge", charge)},
		}, settings))
		defer running.Stop()
		return turns.Growth(limit, int64(size), client, logs...)
	})
}

func charge(_ context.Context, event *pb.ParcelMoved, _ *chassis.Reacting) ([]chassis.Append, error) {
	return []chassis.Append{{Event: &answers.ParcelCharged{
		Id: event.GetId(), Carrier: event.GetCarrier(), Cents: event.GetWeight() / 10,
	}}}, nil
}

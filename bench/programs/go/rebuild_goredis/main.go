// Rebuild with a loop around go-redis' XRead, as its docs show it: parse, put into a map.
//
// usage: rebuild_goredis URL STREAM PARTITIONS
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
	"google.golang.org/protobuf/proto"

	"factfold/chassis/bench/pb"
	"factfold/chassis/bench/turns"
)

func main() {
	rdb, stream := turns.Client(os.Args[1]), os.Args[2]
	partitions := turns.Must(strconv.Atoi(os.Args[3]))
	turns.Take(func(limit time.Duration) turns.Answer {
		return turns.Again(limit, func() (facts int) {
			parcels := map[string]*pb.ParcelMoved{}
			for partition := range partitions {
				facts += read(rdb, fmt.Sprintf("{%s/%d}:log", stream, partition), parcels)
			}
			return facts
		})
	})
}

func read(rdb *redis.Client, key string, parcels map[string]*pb.ParcelMoved) (facts int) {
	for after := "0"; ; {
		res, err := rdb.XRead(context.Background(), &redis.XReadArgs{
			Streams: []string{key, after}, Count: 1000, Block: -1,
		}).Result()
		if errors.Is(err, redis.Nil) {
			return facts
		}
		turns.Check(err)
		for _, message := range res[0].Messages {
			event := &pb.ParcelMoved{}
			turns.Check(proto.Unmarshal([]byte(message.Values["data"].(string)), event))
			parcels[event.GetId()] = event
			after = message.ID
			facts++
		}
	}
}

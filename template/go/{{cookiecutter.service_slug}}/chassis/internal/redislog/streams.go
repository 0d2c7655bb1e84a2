package redislog

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"factfold/chassis/internal/fault"
	"factfold/chassis/internal/wire"
)

// poll is between two looks for a stream that does not exist yet.
const poll = 250 * time.Millisecond

// Head is what {S/p}:head says.
type Head struct {
	Epoch      string
	Partitions int
	wire.ID    // of the last fact; N is how many were appended so far
}

// ReadHead reads a partition's head; false: the partition does not exist.
func ReadHead(ctx context.Context, link *Link, stream string, partition int) (Head, bool, error) {
	head := wire.KeysOf(stream, partition).Head()
	reply, err := link.Do(ctx, "HMGET", head, "epoch", "partitions", "n", "ms")
	if err != nil {
		return Head{}, false, err
	}
	return headOf(reply)
}

func headOf(reply any) (Head, bool, error) {
	parts := List(reply)
	if len(parts) < 4 || parts[0] == nil {
		return Head{}, false, nil
	}
	partitions, err1 := Number(parts[1])
	n, err2 := Number(parts[2])
	ms, err3 := Number(parts[3])
	if err := errors.Join(err1, err2, err3); err != nil {
		return Head{}, false, fmt.Errorf("a head cannot be read: %w", err)
	}
	return Head{Text(parts[0]), int(partitions), wire.ID{Ms: ms, N: n}}, true, nil
}

// ReadTrimmed is the n up to which facts were removed on purpose.
func ReadTrimmed(ctx context.Context, link *Link, keys wire.Keys) (uint64, error) {
	reply, err := link.Do(ctx, "HGET", keys.Head(), "trimmed")
	if err != nil || reply == nil {
		return 0, err
	}
	return Number(reply)
}

// CreateStream makes an own stream if it is not there, and returns the epoch of each partition.
// It waits for Redis as long as it takes. When a partition is absent, expected says why it must not
// be; empty if it may. An error is a fault of KindLogReplaced if the log is expected and absent, in
// part lost, or there without its head; a fault.WiringError if it has another number of partitions.
func CreateStream(
	ctx context.Context, redis *Redis, stream string, partitions int, expected func() string,
) ([]string, error) {
	var epochs []string
	err := Persist(ctx, waitingForRedis, func(ctx context.Context) (err error) {
		epochs, err = create(ctx, redis, stream, partitions, expected)
		return err
	})
	return epochs, err
}

func create(
	ctx context.Context, redis *Redis, stream string, partitions int, expected func() string,
) ([]string, error) {
	links := redis.Links()
	defer links.Close()
	there := make([]bool, partitions)
	// Nobody appends before all partitions are there.
	present, filled := false, false
	for partition := range partitions {
		head, found, err := headBy(ctx, links, stream, partition)
		if err != nil {
			return nil, err
		}
		if found {
			if err := checkPartitions(stream, partitions, head.Partitions); err != nil {
				return nil, err
			}
			there[partition], present, filled = true, true, filled || head.N > 0
		}
	}
	epoch := randomHex(8)
	epochs := make([]string, partitions)
	for partition := range partitions {
		if !there[partition] {
			if err := mayCreate(ctx, links, stream, partition, filled, expected); err != nil {
				return nil, err
			}
		}
		keys := wire.KeysOf(stream, partition).Appending()
		link, err := links.To(ctx, keys...)
		if err != nil {
			return nil, err
		}
		reply, err := link.Script(ctx, "create", keys, partitions, epoch)
		if err != nil {
			return nil, err
		}
		if Text(reply[0]) != "OK" {
			return nil, fault.LogReplaced(stream, Text(reply[1]))
		}
		found, err := Number(reply[2])
		if err != nil {
			return nil, err
		}
		if err := checkPartitions(stream, partitions, int(found)); err != nil {
			return nil, err
		}
		epochs[partition] = Text(reply[1])
	}
	if !present && epochs[0] == epoch {
		logger().Info(fmt.Sprintf("created stream %s: %d partitions, epoch %s", stream, partitions, epoch))
	}
	return epochs, nil
}

func mayCreate(
	ctx context.Context, links *Links, stream string, partition int, filled bool, expected func() string,
) error {
	why := "others hold facts"
	if !filled {
		if why = expected(); why == "" {
			return nil
		}
	}
	// Somebody else may have created it since.
	if _, found, err := headBy(ctx, links, stream, partition); err != nil || found {
		return err
	}
	return fault.LogReplaced(stream, fmt.Sprintf("partition %d is absent, and %s", partition, why))
}

func headBy(ctx context.Context, links *Links, stream string, partition int) (Head, bool, error) {
	link, err := links.To(ctx, wire.KeysOf(stream, partition).Head())
	if err != nil {
		return Head{}, false, err
	}
	return ReadHead(ctx, link, stream, partition)
}

func checkPartitions(stream string, declared, found int) error {
	if found == declared {
		return nil
	}
	return fault.Wiring("stream %s has %d partitions and the contract says %d: partitions are fixed at "+
		"creation; put %d into the contract", stream, found, declared, found)
}

// WaitForStream is the heads of a stream that somebody else creates, once all its partitions exist.
func WaitForStream(ctx context.Context, redis *Redis, stream string) ([]Head, error) {
	var heads []Head
	err := Persist(ctx, waitingForRedis, func(ctx context.Context) error {
		links := redis.Links()
		defer links.Close()
		for said := false; ; {
			var err error
			if heads, err = allHeads(ctx, links, stream); err != nil || heads != nil {
				return err
			}
			if !said {
				logger().Info(fmt.Sprintf("waiting for stream %s: it does not exist", stream))
				said = true
			}
			if err := sleep(ctx, poll); err != nil {
				return err
			}
		}
	})
	return heads, err
}

// allHeads is nil if one is missing.
func allHeads(ctx context.Context, links *Links, stream string) ([]Head, error) {
	var heads []Head
	for partition, partitions := 0, 1; partition < partitions; partition++ {
		head, found, err := headBy(ctx, links, stream, partition)
		if err != nil || !found {
			return nil, err
		}
		partitions = head.Partitions
		heads = append(heads, head)
	}
	return heads, nil
}

func waitingForRedis(reason string, attempt int) {
	if attempt == 1 || attempt%30 == 0 {
		logger().Warn("waiting for Redis: " + reason)
	}
}

func logger() *slog.Logger { return slog.Default().With("logger", "factfold.log") }

func randomHex(bytes int) string {
	data := make([]byte, bytes)
	_, _ = rand.Read(data) // it never fails
	return hex.EncodeToString(data)
}

// Text is a reply that is text; numbers come as text or integers.
func Text(reply any) string {
	switch value := reply.(type) {
	case string:
		return value
	case int64:
		return strconv.FormatInt(value, 10)
	default:
		return ""
	}
}

// Number is a reply that counts or identifies.
func Number(reply any) (uint64, error) { return strconv.ParseUint(Text(reply), 10, 64) }

// List is a reply of several parts; nil if it is none.
func List(reply any) []any {
	parts, _ := reply.([]any)
	return parts
}

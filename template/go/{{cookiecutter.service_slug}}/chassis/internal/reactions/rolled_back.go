package reactions

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"factfold/chassis/internal/redislog"
)

// Of a log that was rolled back while the outputs were not, as they are on other servers.

// producerFrom is the name of a producer for the inputs behind an n.
type producerFrom struct {
	behind uint64
	name   string
}

// ahead is n and ms of the last input whose outputs are there although it is not settled. There is
// none unless the log of the inputs was rolled back, and with it what is settled.
func (t *tenure) ahead(ctx context.Context) (last, ms uint64, ok bool, err error) {
	producer := t.producer(t.producers[len(t.producers)-1].name)
	err = t.step(func() error {
		for stream, partitions := range t.memories {
			for partition := range partitions {
				n, its, err := t.lastOf(ctx, producer, place{stream, partition})
				if err != nil {
					return err
				}
				if n > last {
					last, ms = n, its
				}
			}
		}
		return nil
	})
	return last, ms, last > t.settled, err
}

// lastOf is the last n that a producer has brought to a partition, and the milliseconds beside it.
func (t *tenure) lastOf(ctx context.Context, producer string, at place) (n, ms uint64, err error) {
	link, err := t.toAppend(ctx, at)
	if err != nil {
		return 0, 0, err
	}
	stored, err := link.Do(ctx, "HGET", at.keys().Producers(), producer)
	if err != nil || stored == nil {
		return 0, 0, err
	}
	// time|n|refusals|cut, and since an append that was told of them |ms
	parts := strings.Split(redislog.Text(stored), "|")
	if len(parts) > 1 {
		n, err = redislog.Number(parts[1])
	}
	if len(parts) > 4 && err == nil {
		ms, err = redislog.Number(parts[4])
	}
	if err != nil {
		err = fmt.Errorf("the producer %s: %w", producer, err)
	}
	return n, ms, err
}

// renew: facts up to n = answered are not answered again; those behind it are others. Their n were
// given before, so their outputs would pass for known ones: name tells them apart.
func (t *tenure) renew(ctx context.Context, answered uint64, name string) error {
	if answered > t.settled {
		if err := t.settle(ctx, answered, nil); err != nil {
			return err
		}
	}
	producers := append(slices.Clone(t.producers), producerFrom{t.settled, name})
	texts := make([]string, len(producers))
	for i, each := range producers {
		texts[i] = fmt.Sprintf("%d:%s", each.behind, each.name)
	}
	if err := t.call(ctx, "renew", []string{t.state}, strings.Join(texts, ",")); err != nil {
		return err
	}
	if err := t.confirm(ctx); err != nil {
		return err
	}
	t.producers = producers
	return nil
}

func (t *tenure) findProducers(ctx context.Context) error {
	return t.step(func() error {
		found, err := t.link.Do(ctx, "HGET", t.state, "producers")
		if err != nil || found == nil {
			return err
		}
		t.producers = nil
		for pair := range strings.SplitSeq(redislog.Text(found), ",") {
			behind, name, _ := strings.Cut(pair, ":")
			n, err := redislog.Number(behind)
			if err != nil {
				return fmt.Errorf("the producers of %s: %w", t.state, err)
			}
			t.producers = append(t.producers, producerFrom{n, name})
		}
		return nil
	})
}

// producerOf is the name of the producer of what answers the input n.
func (t *tenure) producerOf(n uint64) string {
	for _, each := range slices.Backward(t.producers) {
		if n > each.behind {
			return each.name
		}
	}
	return t.epoch
}

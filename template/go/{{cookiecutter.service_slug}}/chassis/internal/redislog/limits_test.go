package redislog

import (
	"bytes"
	"errors"
	"testing"

	"factfold/chassis/internal/fault"
)

func TestTheFactsOfOneAppendShareOneMebibyte(t *testing.T) {
	const half = MaxBatchBytes / 2
	for name, each := range map[string]struct {
		sizes   []int
		refused bool
	}{
		"all of it":      {sizes: []int{half, half}},
		"one byte more":  {sizes: []int{half, half + 1}, refused: true},
		"one fact alone": {sizes: []int{MaxBatchBytes + 1}},
	} {
		t.Run(name, func(t *testing.T) {
			appender := NewAppender(New(parsed(t, "redis://nowhere")), "orders",
				[]string{"00c0ffee00c0ffee"}, AppendOptions{MaxFactBytes: 2 * MaxBatchBytes})
			var facts []NewFact
			for _, size := range each.sizes {
				next := fact("a", "")
				next.Data = bytes.Repeat([]byte("x"), size-next.Size())
				facts = append(facts, next)
			}
			_, err := appender.check(facts)
			if refused := errors.Is(err, fault.KindInvalidRequest); refused != each.refused {
				t.Errorf("%v", err)
			}
		})
	}
}

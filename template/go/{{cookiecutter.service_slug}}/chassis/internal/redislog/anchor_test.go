package redislog

import (
	"context"
	"errors"
	"iter"
	"testing"
	"time"
)

func TestAnAnchorWithoutAnIDIsComparedByItsPosition(t *testing.T) {
	r := startReading(t, 3)
	anchor := r.anchor(2)
	anchor.FactID = ""
	next, stop := iter.Pull2(r.reader(Options{Anchor: anchor}).Batches(t.Context()))
	defer stop()
	isNumbered(t, take(t, next, 1), 3)
}

func TestAnEntryWithANumberThatWasReadIsForeign(t *testing.T) {
	r := startReading(t, 5)
	r.do("XADD", r.log(), "9999999999999-3", "x", "y")
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
	defer cancel()
	var changed *LogChanged
	for _, err := range r.reader(Options{Anchor: r.anchor(5)}).Batches(ctx) {
		if err != nil && !errors.As(err, &changed) {
			t.Fatal(err)
		}
	}
	if changed == nil || changed.Kind != Foreign || changed.Reason != "no appender wrote the entry 9999999999999-3" {
		t.Errorf("%v", changed)
	}
}

// Rebuild of a view.
//
// usage: rebuild_factfold URL
package main

import (
	"log/slog"
	"os"
	"time"

	"factfold/chassis/bench/declared"
	"factfold/chassis/bench/turns"
)

func main() {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	turns.Take(func(limit time.Duration) turns.Answer {
		return turns.Again(limit, func() int {
			view := declared.CatchUp(os.Args[1], "")
			defer view.End()
			return view.Facts()
		})
	})
}

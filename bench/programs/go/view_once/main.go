// Makes the view of parcels in a fresh process, once, and says how long that took.
//
// usage: view_once REDIS_URL rebuild|save|restore [SNAPSHOTS]
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"factfold/chassis/bench/declared"
	"factfold/chassis/bench/turns"
)

func main() {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	url, work, folder := os.Args[1], os.Args[2], ""
	if work != "rebuild" {
		folder = os.Args[3]
	}
	before, began := rss(), time.Now()
	view := declared.CatchUp(url, folder)
	took, after := time.Since(began).Seconds(), rss()
	if work == "save" {
		view.Save(context.Background())
	}
	turns.Print(turns.Answer{
		"value": took, "keys": view.Keys(), "facts": view.Facts(),
		"rss": after / (1 << 20), "bytes_a_key": (after - before) / float64(view.Keys()),
	})
}

// rss is the memory that this process has now, in bytes.
func rss() float64 {
	var size, resident int
	turns.Must(fmt.Sscan(string(turns.Must(os.ReadFile("/proc/self/statm"))), &size, &resident))
	return float64(resident * os.Getpagesize())
}

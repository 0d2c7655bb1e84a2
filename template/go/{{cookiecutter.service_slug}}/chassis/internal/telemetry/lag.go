package telemetry

import "time"

// Lag is how far behind the log's end somebody is, as that was last seen.
type Lag struct {
	Stream    string
	Partition int
	Facts     uint64
	Seconds   float64 // since the oldest of these facts was appended; below 0: not known
}

// LagOf makes one. sinceMs is the time of the oldest of these facts, or of the last one before; 0:
// it is not known.
func LagOf(stream string, partition int, facts, sinceMs uint64) Lag {
	lag := Lag{Stream: stream, Partition: partition, Facts: facts}
	switch {
	case facts > 0 && sinceMs == 0:
		lag.Seconds = -1
	case facts > 0:
		lag.Seconds = max(0, time.Since(time.UnixMilli(int64(sinceMs))).Seconds())
	}
	return lag
}

package logs

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/trace"
)

func TestJSONHasTheStandardFieldsAndTheExtras(t *testing.T) {
	var out bytes.Buffer
	ctx := trace.ContextWithSpanContext(context.Background(), trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{15: 0xAB}, SpanID: trace.SpanID{7: 0xCD},
	}))
	slog.New(newHandler(&out, false, slog.LevelInfo, nil)).With("logger", "acme").
		WarnContext(ctx, "placed it", "key", "ö-1", "level", "no", "n", 3)
	var line map[string]any
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatal(err)
	}
	if stamp, _ := line["timestamp"].(string); !strings.HasSuffix(stamp, "+00:00") {
		t.Error(stamp)
	}
	delete(line, "timestamp")
	if want := map[string]any{
		"level": "WARNING", "message": "placed it", "logger": "acme", "key": "ö-1", "n": 3.0,
		"trace_id": "000000000000000000000000000000ab", "span_id": "00000000000000cd",
	}; !maps.Equal(line, want) {
		t.Error(line)
	}
}

func TestTextIsOneReadableLineAndAStack(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(newHandler(&out, true, slog.LevelWarn, nil))
	log.Info("too quiet")
	log.Warn("refused: no\n12:00:00.000 INFO    serving", "address", "127.0.0.1:1", "exception", "a\nb")
	_, line, _ := strings.Cut(out.String(), " ")
	if line != "WARNING refused: no 12:00:00.000 INFO    serving address=127.0.0.1:1\na\nb\n" {
		t.Errorf("%q", line)
	}
}

func TestAPasswordNeverAppears(t *testing.T) {
	for _, text := range []bool{true, false} {
		var out bytes.Buffer
		log := slog.New(newHandler(&out, text, slog.LevelInfo, []string{"s%40c%22ret", `s@c"ret`}))
		log.Error("cannot reach redis://me:s%40c%22ret@h", "password", `s@c"ret`)
		if strings.Contains(out.String(), "ret") || strings.Count(out.String(), "***") != 2 {
			t.Error(out.String())
		}
	}
}

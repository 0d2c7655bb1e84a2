// Package logs writes logs: one JSON object a line, or a line for a person on a terminal.
//
// Use log/slog; the attributes appear beside the message. The attribute "logger" says which part of
// the program speaks, and "exception" is a stack.
package logs

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"

	"factfold/chassis/internal/settings"
)

var levels = map[string]slog.Level{
	"DEBUG": slog.LevelDebug, "INFO": slog.LevelInfo, "WARNING": slog.LevelWarn, "ERROR": slog.LevelError,
}

// New makes the handler that the settings ask for.
func New(settings settings.Settings, out *os.File) slog.Handler {
	text := settings.LogFormat == "text" || (settings.LogFormat == "auto" && isTerminal(out))
	return newHandler(out, text, levels[settings.LogLevel], settings.Secrets())
}

func isTerminal(file *os.File) bool {
	found, err := file.Stat()
	return err == nil && found.Mode()&os.ModeCharDevice != 0
}

type handler struct {
	out     *lines
	level   slog.Level
	text    bool
	hide    *strings.Replacer
	logger  string
	extras  []field
	grouped string
}

type lines struct {
	mu sync.Mutex
	io.Writer
}

type field struct {
	name  string
	value any
}

func newHandler(out io.Writer, text bool, level slog.Level, secrets []string) *handler {
	var forms []string
	for _, secret := range secrets {
		// As it is and as JSON has it. Shorter ones would also hide what is no secret.
		for _, form := range []string{secret, strings.Trim(dump(secret), `"`)} {
			if len(form) >= 4 {
				forms = append(forms, form)
			}
		}
	}
	slices.SortFunc(forms, func(a, b string) int { return len(b) - len(a) })
	var pairs []string
	for _, form := range forms {
		pairs = append(pairs, form, "***")
	}
	return &handler{
		out: &lines{Writer: out}, level: level, text: text, hide: strings.NewReplacer(pairs...), logger: "service",
	}
}

// Enabled is part of slog.Handler.
func (h *handler) Enabled(_ context.Context, level slog.Level) bool { return level >= h.level }

// WithAttrs is part of slog.Handler.
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	copied := *h
	copied.extras = slices.Clone(h.extras)
	for _, attr := range attrs {
		copied.add(attr, h.grouped)
	}
	return &copied
}

// WithGroup is part of slog.Handler.
func (h *handler) WithGroup(name string) slog.Handler {
	copied := *h
	copied.grouped += name + "."
	return &copied
}

func (h *handler) add(attr slog.Attr, group string) {
	value := attr.Value.Resolve()
	switch {
	case value.Kind() == slog.KindGroup:
		for _, each := range value.Group() {
			h.add(each, group+attr.Key+".")
		}
	case group == "" && attr.Key == "logger":
		h.logger = value.String()
	case attr.Key != "":
		h.extras = append(h.extras, field{group + attr.Key, plain(value)})
	}
}

// Handle is part of slog.Handler.
func (h *handler) Handle(ctx context.Context, record slog.Record) error {
	with := *h
	with.extras = slices.Clone(h.extras)
	record.Attrs(func(attr slog.Attr) bool { with.add(attr, h.grouped); return true })
	line := with.json
	if h.text {
		line = with.line
	}
	h.out.mu.Lock()
	defer h.out.mu.Unlock()
	_, err := io.WriteString(h.out, h.hide.Replace(line(ctx, record))+"\n")
	return err
}

// json has timestamp (RFC 3339, UTC), level, message, logger, trace_id, span_id, then the extras,
// of which none replaces these.
func (h *handler) json(ctx context.Context, record slog.Record) string {
	fields := []field{
		{"timestamp", record.Time.UTC().Format("2006-01-02T15:04:05.000+00:00")},
		{"level", levelName(record.Level)},
		{"message", record.Message},
		{"logger", h.logger},
	}
	if at := trace.SpanContextFromContext(ctx); at.IsValid() {
		fields = append(fields, field{"trace_id", at.TraceID().String()}, field{"span_id", at.SpanID().String()})
	}
	var line bytes.Buffer
	line.WriteByte('{')
	seen := map[string]bool{}
	for _, each := range append(fields, h.extras...) {
		if seen[each.name] {
			continue
		}
		if len(seen) > 0 {
			line.WriteString(", ")
		}
		seen[each.name] = true
		line.WriteString(dump(each.name) + ": " + dump(each.value))
	}
	line.WriteByte('}')
	return line.String()
}

// line is `12:00:00.000 INFO    message field=value`, then the stack of an exception.
func (h *handler) line(_ context.Context, record slog.Record) string {
	line := fmt.Sprintf("%s %-7s %s",
		record.Time.Local().Format("15:04:05.000"), levelName(record.Level), record.Message)
	stack := ""
	for _, each := range h.extras {
		if each.name == "exception" {
			stack = fmt.Sprintf("\n%v", each.value)
			continue
		}
		line += fmt.Sprintf(" %s=%v", each.name, each.value)
	}
	// What others wrote into it must not look like a line.
	return strings.Join(strings.FieldsFunc(line, func(r rune) bool { return r == '\n' || r == '\r' }), " ") + stack
}

func levelName(level slog.Level) string {
	if level == slog.LevelWarn {
		return "WARNING"
	}
	return level.String()
}

// plain is a value as JSON has it.
func plain(value slog.Value) any {
	switch value.Kind() {
	case slog.KindBool, slog.KindInt64, slog.KindUint64, slog.KindFloat64, slog.KindString:
		return value.Any()
	case slog.KindTime:
		return value.Time().UTC().Format(time.RFC3339Nano)
	}
	return value.String()
}

func dump(value any) string {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return dump(fmt.Sprint(value)) // a number that JSON has not
	}
	return strings.TrimSuffix(text.String(), "\n")
}

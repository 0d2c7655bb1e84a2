package reactions

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"sync"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	factfoldv1 "factfold/chassis/factfold/v1"
	"factfold/chassis/internal/contract"
	"factfold/chassis/internal/fault"
	"factfold/chassis/internal/telemetry"
	"factfold/chassis/internal/wire"
)

const maxError = 500 // characters of an error that are kept

// answers runs a reaction's handler: what it answers to facts of one stream, or why it could not.
// A handler that fails is an outcome as well: the fact becomes a dead letter.
type answers struct {
	config Config
	group  string // service.reaction
	source string
	events map[string]*contract.Event
}

// batch finds outcomes by n, of facts that concern the reaction, and what they append, in no order:
// keys side by side, each key's facts in order. There are no more keys than a batch has facts.
//
// Facts of blocked keys are held back. Spans of a replay, whose facts are of the past, join one new
// trace.
func (a *answers) batch(
	ctx context.Context, facts []*wire.Fact, blocked map[string]bool, replay bool,
) (_ map[uint64]*factfoldv1.Outcome, _ []*unit, err error) {
	lines := map[string][]*wire.Fact{}
	for _, fact := range facts {
		if a.concerned(fact) {
			key := fact.RawKey()
			lines[key] = append(lines[key], fact)
		}
	}
	var root *telemetry.Process
	if replay && len(lines) > 0 {
		root = a.config.Telemetry.Replay(ctx, facts[0].Stream, facts[0].Partition, a.group, metas(lines))
		defer func() { root.End(err) }()
	}
	var mu sync.Mutex
	outcomes := map[uint64]*factfoldv1.Outcome{}
	var units []*unit
	working := sideBySide(ctx)
	for key, line := range lines {
		working.start(func(ctx context.Context) error {
			held := blocked[key]
			for _, fact := range line {
				outcome, its := &factfoldv1.Outcome{Held: true}, []*unit(nil)
				if !held {
					var err error
					if outcome, its, err = a.one(ctx, fact, root, false); err != nil {
						return err
					}
				}
				held = held || outcome.Failure != ""
				mu.Lock()
				outcomes[fact.Entry.ID.N] = outcome
				units = append(units, its...)
				mu.Unlock()
			}
			return nil
		})
	}
	if err = working.wait(); err != nil {
		endAll(units, err)
		return nil, nil, err
	}
	return outcomes, units, nil
}

// concerned: entries without a type may be anything.
func (a *answers) concerned(fact *wire.Fact) bool {
	name, err := fact.Type()
	return err != nil || a.events[name] != nil
}

// one is what the handler answers to one fact, and what that appends. A fact that has failed before
// is answered again: its stack was logged then. An error is the context's, or a *fault.WiringError:
// the code is wrong for every fact.
func (a *answers) one(
	ctx context.Context, fact *wire.Fact, replay *telemetry.Process, again bool,
) (*factfoldv1.Outcome, []*unit, error) {
	event, meta, err := a.read(fact)
	if err != nil {
		outcome := a.failed(fact, fmt.Errorf("the entry cannot be read: %w", err), true)
		outcome.Hopeless = true
		return outcome, nil, nil
	}
	// A view may have begun anew, and what is decided now is never decided again.
	if err := a.config.ViewsReady(ctx); err != nil {
		return nil, nil, err
	}
	units, err := a.run(ctx, event, fact, meta, replay)
	var wiring *fault.WiringError
	switch {
	case ctx.Err() != nil: // also if the handler has kept it to itself
		endAll(units, ctx.Err())
		return nil, nil, ctx.Err()
	case errors.As(err, &wiring):
		return nil, nil, wiring // a person has to change the code: facts can wait where they are
	case err != nil:
		return a.failed(fact, err, again), nil, nil
	}
	return outcomeOf(units), units, nil
}

// run is the handler, and what becomes of its outputs. A panic of the team's code is an error.
func (a *answers) run(
	ctx context.Context, event proto.Message, fact *wire.Fact, meta *factfoldv1.FactMeta,
	replay *telemetry.Process,
) (units []*unit, err error) {
	ctx, span := a.config.Telemetry.Process(
		ctx, fact.Stream, fact.Partition, a.group, meta, fact.RawKey(), replay)
	defer func() {
		if value := recover(); value != nil {
			units, err = nil, &panicked{value, string(debug.Stack())}
		}
		span.End(err)
	}()
	outputs, err := a.config.Reaction.Answer(ctx, event, fact)
	if err != nil {
		return nil, err
	}
	return a.decide(ctx, outputs, fact, meta.Id)
}

// read is the fact's event, after a look at all else that a fact has.
func (a *answers) read(fact *wire.Fact) (proto.Message, *factfoldv1.FactMeta, error) {
	name, err := fact.Type()
	if err != nil {
		return nil, nil, err
	}
	event := a.events[name]
	if event == nil {
		return nil, nil, fmt.Errorf("this reaction does not answer %s", name)
	}
	message := event.New()
	if err := fact.Read(message); err != nil {
		return nil, nil, err
	}
	meta, err := fact.Meta()
	return message, meta, err
}

func (a *answers) failed(fact *wire.Fact, err error, again bool) *factfoldv1.Outcome {
	a.config.Telemetry.Count("factfold.reaction.errors", 1, "reaction", a.config.Reaction.Name)
	reason := err.Error()
	if reason == "" {
		reason = fmt.Sprintf("%T", err)
	}
	var stack []any
	var panicked *panicked
	if !again && errors.As(err, &panicked) {
		stack = []any{"exception", panicked.stack}
	}
	logger().Warn(fmt.Sprintf(
		"reaction %s cannot answer the fact at %s: %s; later facts of its key wait behind it",
		a.config.Reaction.Name, fact.Position(), reason), stack...)
	return &factfoldv1.Outcome{Failure: kept(reason)}
}

// kept is as much of an error as is kept. What a handler says need not be text that can be stored.
func kept(reason string) string {
	reason = strings.ToValidUTF8(reason, "?")
	if utf8.RuneCountInString(reason) > maxError {
		reason = string([]rune(reason)[:maxError])
	}
	return reason
}

// panicked is what code of the team has panicked with.
type panicked struct {
	value any
	stack string
}

func (p *panicked) Error() string { return fmt.Sprintf("panic: %v", p.value) }

func (p *panicked) Unwrap() error {
	err, _ := p.value.(error)
	return err
}

func metas(lines map[string][]*wire.Fact) []*factfoldv1.FactMeta {
	var found []*factfoldv1.FactMeta
	for _, line := range lines {
		for _, fact := range line {
			if meta, err := fact.Meta(); err == nil {
				found = append(found, meta)
			}
		}
	}
	return found
}

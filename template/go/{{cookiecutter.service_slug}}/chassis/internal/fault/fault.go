// Package fault has every error of the chassis. Each message says what happened, to what, and what
// to do next, in one line.
package fault

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
)

// Kind is what kind of error a Refusal is: errors.Is(err, fault.KindPositionLost). Its text is the
// error.type of spans and metrics.
type Kind string

// The kinds of refusals, by the status that a caller sees.
const (
	KindInvalidRequest     Kind = "InvalidRequest"     // INVALID_ARGUMENT, with field violations
	KindNotFound           Kind = "NotFound"           // NOT_FOUND
	KindFailedPrecondition Kind = "FailedPrecondition" // FAILED_PRECONDITION: repeating changes nothing
	KindLogReplaced        Kind = "LogReplaced"        // the log is not the one that was read before
	KindOtherEpoch         Kind = "OtherEpoch"         // a position of another epoch
	KindPositionLost       Kind = "PositionLost"       // a position that a roll-back took away
	KindVersionConflict    Kind = "VersionConflict"    // ABORTED, nothing was appended
	KindLogFull            Kind = "LogFull"            // RESOURCE_EXHAUSTED, nothing was appended
	KindQueueFull          Kind = "QueueFull"          // RESOURCE_EXHAUSTED, nothing was appended
	KindDeadlineExceeded   Kind = "DeadlineExceeded"   // the default one, of a call that brought none
	KindUnavailable        Kind = "Unavailable"        // UNAVAILABLE: the call may succeed later
	KindLogUnreachable     Kind = "LogUnreachable"     // known not to be appended
	KindOutcomeUnknown     Kind = "OutcomeUnknown"     // appended or not
	KindPositionNotReached Kind = "PositionNotReached" // the view is behind
	KindNotReady           Kind = "NotReady"           // the service is not serving yet, or no more
	KindDraining           Kind = "Draining"           // a watch ends, and may resume
)

func (k Kind) Error() string { return string(k) }

var codeOf = map[Kind]codes.Code{
	KindInvalidRequest:     codes.InvalidArgument,
	KindNotFound:           codes.NotFound,
	KindFailedPrecondition: codes.FailedPrecondition,
	KindLogReplaced:        codes.FailedPrecondition,
	KindOtherEpoch:         codes.FailedPrecondition,
	KindPositionLost:       codes.FailedPrecondition,
	KindVersionConflict:    codes.Aborted,
	KindLogFull:            codes.ResourceExhausted,
	KindQueueFull:          codes.ResourceExhausted,
	KindDeadlineExceeded:   codes.DeadlineExceeded,
	KindUnavailable:        codes.Unavailable,
	KindLogUnreachable:     codes.Unavailable,
	KindOutcomeUnknown:     codes.Unavailable,
	KindPositionNotReached: codes.Unavailable,
	KindNotReady:           codes.Unavailable,
	KindDraining:           codes.Unavailable,
}

// Violation is a field of a request that breaks a rule.
type Violation struct{ Field, Description string }

// Refusal is how a call ends otherwise than with its answer.
type Refusal struct {
	Kind       Kind
	Message    string
	Position   string      // if not empty, for the trailer factfold-position
	Violations []Violation // of KindInvalidRequest
}

func (r *Refusal) Error() string { return r.Message }

// Is lets errors.Is compare with a Kind; every refusal that may succeed later is a KindUnavailable,
// and every one of FAILED_PRECONDITION a KindFailedPrecondition.
func (r *Refusal) Is(target error) bool {
	kind, ok := target.(Kind)
	if !ok {
		return false
	}
	general := kind == KindUnavailable || kind == KindFailedPrecondition
	return kind == r.Kind || general && codeOf[kind] == codeOf[r.Kind]
}

// In bytes. Beyond 8 KiB of trailers, in base64 and percent signs, a client sees another error.
const maxMessage, maxViolation, maxViolations = 512, 192, 8

// GRPCStatus is what the caller gets.
func (r *Refusal) GRPCStatus() *status.Status {
	found := status.New(codeOf[r.Kind], cut(r.Message, maxMessage))
	if len(r.Violations) == 0 {
		return found
	}
	request := &errdetails.BadRequest{}
	for _, each := range r.Violations[:min(len(r.Violations), maxViolations)] {
		request.FieldViolations = append(request.FieldViolations, &errdetails.BadRequest_FieldViolation{
			Field: cut(each.Field, maxViolation), Description: cut(each.Description, maxViolation),
		})
	}
	detailed, err := found.WithDetails(protoadapt.MessageV1Of(request))
	if err != nil {
		return found
	}
	return detailed
}

// VersionConflict says that Key is at version Actual, not Expected; nothing was appended.
type VersionConflict struct {
	Stream, Key      string
	Expected, Actual uint64
}

func (e *VersionConflict) Error() string {
	return fmt.Sprintf("%s of stream %s is at version %d, not %d; nothing was appended; "+
		"read it again and decide anew", quoted(e.Key), e.Stream, e.Actual, e.Expected)
}

// Is lets errors.Is compare with KindVersionConflict.
func (e *VersionConflict) Is(target error) bool { return target == KindVersionConflict }

// GRPCStatus is what the caller gets.
func (e *VersionConflict) GRPCStatus() *status.Status {
	return status.New(codes.Aborted, cut(e.Error(), maxMessage))
}

// InvalidRequest says that a field of the request breaks a rule; more are further ones.
func InvalidRequest(field, description string, more ...Violation) *Refusal {
	violations := append([]Violation{{field, description}}, more...)
	texts := make([]string, len(violations))
	for i, each := range violations {
		texts[i] = each.Field + ": " + each.Description
	}
	return &Refusal{
		Kind: KindInvalidRequest, Message: strings.Join(texts, "; "), Violations: violations,
	}
}

// NotFound says that there is no what (such as "order") with this key.
func NotFound(what, key string) *Refusal {
	return refuse(KindNotFound, "there is no %s %s", what, quoted(key))
}

// FailedPrecondition says why repeating the call changes nothing.
func FailedPrecondition(text string) *Refusal {
	return &Refusal{Kind: KindFailedPrecondition, Message: text}
}

// LogReplaced says that the log is not the one that was read before.
func LogReplaced(stream, reason string) *Refusal {
	return refuse(KindLogReplaced, "the log of stream %s was lost or replaced (%s); restore it from a "+
		"backup, or begin anew without it: `factfold stream recreate %s`; then restart the service",
		stream, reason, stream)
}

// OtherEpoch says that the position asked for belongs to another log than the present one.
func OtherEpoch(asked, present string) *Refusal {
	return at(present, refuse(KindOtherEpoch, "the position %s belongs to another epoch of the log "+
		"(now %s); drop it and read again", asked, present))
}

// PositionLost says that a roll-back took the position asked for away.
func PositionLost(asked, present string) *Refusal {
	return at(present, refuse(KindPositionLost, "the position %s is not in the log, which was rolled "+
		"back (now %s); drop it and read again", asked, present))
}

// LogFull says that Redis has no memory for more facts.
func LogFull(stream string) *Refusal {
	return refuse(KindLogFull, "the log of stream %s is out of memory; nothing was appended; "+
		"retry once Redis has room", stream)
}

// QueueFull says that so many facts wait that no more are taken.
func QueueFull(stream string, waiting int) *Refusal {
	return refuse(KindQueueFull, "%d facts wait to be appended to stream %s; nothing was appended; "+
		"retry later, with fewer calls at once", waiting, stream)
}

// DeadlineExceeded says that the default deadline has passed, of a call that brought none.
func DeadlineExceeded(seconds float64) *Refusal {
	return refuse(KindDeadlineExceeded, "no answer within %g s, the default deadline; what was "+
		"appended is unknown: repeat the command with the same request_id, or send a deadline", seconds)
}

// Unavailable says why a call did not succeed that may succeed later.
func Unavailable(text string) *Refusal {
	return &Refusal{Kind: KindUnavailable, Message: text}
}

// LogUnreachable says that nothing was appended, and why.
func LogUnreachable(stream, reason string) *Refusal {
	return refuse(KindLogUnreachable, "the log of stream %s is unreachable (%s); nothing was "+
		"appended; retry", stream, reason)
}

// OutcomeUnknown says that facts may be in the log or not.
func OutcomeUnknown(stream, reason string) *Refusal {
	return refuse(KindOutcomeUnknown, "the outcome of an append to stream %s is unknown (%s); "+
		"repeat the command with the same request_id", stream, reason)
}

// PositionNotReached says that a view is behind the position asked for.
func PositionNotReached(asked, present string) *Refusal {
	now := present
	if now == "" {
		now = "at the start"
	}
	return at(present, refuse(KindPositionNotReached, "the position %s was not reached in time "+
		"(now %s); retry", asked, now))
}

// NotReady says why the service does not serve.
func NotReady(reason string) *Refusal {
	return refuse(KindNotReady, "not ready: %s; retry later", reason)
}

// Draining ends a watch, which may go on elsewhere from this position.
func Draining(position string) *Refusal {
	return at(position, refuse(KindDraining,
		"the service is shutting down; watch again from factfold-position"))
}

// StartError ends the process: one line on standard error, and ExitCode.
type StartError struct{ Message string }

// ExitCode is that of a process that cannot start.
const ExitCode = 2

func (e *StartError) Error() string { return e.Message }

// CannotStart is a StartError with this message.
func CannotStart(format string, args ...any) *StartError {
	return &StartError{fmt.Sprintf(format, args...)}
}

// WiringError is a StartError: the contract and the code do not fit.
type WiringError struct{ StartError }

func (e *WiringError) Unwrap() error { return &e.StartError }

// Wiring is a WiringError with this message.
func Wiring(format string, args ...any) *WiringError {
	return &WiringError{StartError{fmt.Sprintf(format, args...)}}
}

func refuse(kind Kind, format string, args ...any) *Refusal {
	return &Refusal{Kind: kind, Message: fmt.Sprintf(format, args...)}
}

func at(position string, refusal *Refusal) *Refusal {
	refusal.Position = position
	return refusal
}

// quoted is a key as messages show it, in one line and not too long.
func quoted(key string) string {
	if runes := []rune(key); len(runes) > 80 {
		key = string(runes[:79]) + "…"
	}
	text := strconv.Quote(key)
	if strings.Contains(key, "'") {
		return text
	}
	return "'" + strings.ReplaceAll(text[1:len(text)-1], `\"`, `"`) + "'"
}

func cut(text string, size int) string {
	if len(text) <= size {
		return strings.ToValidUTF8(text, "�")
	}
	text = text[:size-3]
	for !utf8.ValidString(text) && len(text) > 0 {
		text = text[:len(text)-1]
	}
	return text + "…"
}

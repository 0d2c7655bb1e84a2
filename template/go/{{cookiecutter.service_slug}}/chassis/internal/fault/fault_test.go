package fault

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestErrorsHaveTheirCodeAndOneLine(t *testing.T) {
	for _, each := range []struct {
		err  error
		code codes.Code
		text string
	}{
		{InvalidRequest("name", "must not be empty", Violation{"size", "too large"}),
			codes.InvalidArgument, "name: must not be empty; size: too large"},
		{NotFound("order", "it's\n"), codes.NotFound, `there is no order "it's\n"`},
		{NotFound("order", strings.Repeat("ö", 81)), codes.NotFound,
			"there is no order '" + strings.Repeat("ö", 79) + "…'"},
		{&VersionConflict{"orders", "a", 1, 2}, codes.Aborted, "'a' of stream orders is at version 2, " +
			"not 1; nothing was appended; read it again and decide anew"},
		{LogUnreachable("orders", "it is busy"), codes.Unavailable, "the log of stream orders is " +
			"unreachable (it is busy); nothing was appended; retry"},
		{PositionNotReached("p", ""), codes.Unavailable,
			"the position p was not reached in time (now at the start); retry"},
		{DeadlineExceeded(2.5), codes.DeadlineExceeded, "no answer within 2.5 s, the default " +
			"deadline; what was appended is unknown: repeat the command with the same request_id, " +
			"or send a deadline"},
	} {
		if each.err.Error() != each.text {
			t.Errorf("%q, not %q", each.err, each.text)
		}
		if code := status.Code(fmt.Errorf("wrapped: %w", each.err)); code != each.code {
			t.Errorf("%q has the code %v, not %v", each.err, code, each.code)
		}
	}
}

func TestKindsAreFoundThroughWraps(t *testing.T) {
	wrapped := fmt.Errorf("again: %w", LogReplaced("orders", "it is gone"))
	for kind, want := range map[Kind]bool{
		KindLogReplaced: true, KindFailedPrecondition: true, KindPositionLost: false,
		KindUnavailable: false,
	} {
		if errors.Is(wrapped, kind) != want {
			t.Errorf("%v: %v", kind, !want)
		}
	}
	if !errors.Is(&VersionConflict{}, KindVersionConflict) {
		t.Error("a version conflict is of its kind")
	}
	var start *StartError
	if !errors.As(Wiring("%d events", 2), &start) || start.Message != "2 events" {
		t.Errorf("a wiring error is a start error: %v", start)
	}
}

func TestViolationsAreDetailsAndCut(t *testing.T) {
	violations := make([]Violation, 20)
	for i := range violations {
		violations[i] = Violation{"f", strings.Repeat("ä", 300)}
	}
	found := InvalidRequest("first", "wrong", violations...).GRPCStatus()
	if size := len(found.Message()); size > maxMessage {
		t.Errorf("the message has %d bytes", size)
	}
	request := found.Details()[0].(*errdetails.BadRequest)
	if len(request.FieldViolations) != maxViolations {
		t.Errorf("%d violations", len(request.FieldViolations))
	}
	if text := request.FieldViolations[1].Description; len(text) > maxViolation {
		t.Errorf("a description has %d bytes", len(text))
	}
}

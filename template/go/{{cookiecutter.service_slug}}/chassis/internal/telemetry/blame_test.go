package telemetry

import (
	"testing"

	"google.golang.org/grpc/codes"
)

func TestAServerIsNotToBlameForItsCallersMistakes(t *testing.T) {
	blamed := map[codes.Code]bool{
		codes.Unknown: true, codes.DeadlineExceeded: true, codes.Unimplemented: true, codes.Internal: true,
		codes.Unavailable: true, codes.DataLoss: true,
	}
	for code := codes.OK; code <= codes.Unauthenticated; code++ {
		if serverFault(code) != blamed[code] {
			t.Errorf("%s: %v", code, serverFault(code))
		}
	}
}

package chassistest

import (
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"
)

// Violations are the fields that a call with INVALID_ARGUMENT broke, each with the rule in words.
func Violations(err error) map[string]string {
	found := map[string]string{}
	for _, detail := range status.Convert(err).Details() {
		if bad, ok := detail.(*errdetails.BadRequest); ok {
			for _, each := range bad.GetFieldViolations() {
				found[each.GetField()] = each.GetDescription()
			}
		}
	}
	return found
}

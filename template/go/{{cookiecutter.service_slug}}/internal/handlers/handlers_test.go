package handlers_test

import (
	"maps"
	"slices"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"factfold/chassis/testing/chassistest"

	contract "service/gen/{{cookiecutter.__package_path}}"
	"service/internal/app"
)

// run is the whole service, with a client of it.
func run(t *testing.T) (*chassistest.Running, contract.{{cookiecutter.__go_aggregate}}ServiceClient) {
	t.Helper()
	running := chassistest.Run(t, app.Service())
	return running, contract.New{{cookiecutter.__go_aggregate}}ServiceClient(running.Channel)
}

// refused fails the test unless the call ended with this code, naming these fields.
func refused(t *testing.T, err error, code codes.Code, fields ...string) {
	t.Helper()
	named := slices.Sorted(maps.Keys(chassistest.Violations(err)))
	if status.Code(err) != code || !slices.Equal(named, fields) {
		t.Errorf("the call ended with %v, naming %q; it must be %s, naming %q", err, named, code, fields)
	}
}

func same(t *testing.T, got, want proto.Message) {
	t.Helper()
	if !proto.Equal(got, want) {
		t.Errorf("it is %v, not %v", got, want)
	}
}

package reactions_test

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"factfold/chassis"
	"factfold/chassis/testing/chassistest"

	contract "service/gen/{{cookiecutter.__package_path}}"
	theirs "{{theirs.stubs}}"
	"service/internal/app"
)

func TestAFactOf{{theirs.go_one}}IsAnsweredOnce(t *testing.T) {
	running := chassistest.Run(t, app.Service())
	running.Publish(t.Context(), &theirs.{{theirs.aggregate}}Created{Id: "1", Name: "one"}, chassis.At(0))
	chassistest.Eventually(t, func() bool { return len(running.Facts(t.Context(), app.Name)) == 1 })
	want := &contract.{{cookiecutter.__go_aggregate}}Created{Id: "1", Name: "one"}
	if event := running.Facts(t.Context(), app.Name)[0].Event; !proto.Equal(event, want) {
		t.Errorf("the answer is %v, not %v", event, want)
	}
}

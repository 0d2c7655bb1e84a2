package views_test

import (
	"fmt"
	"maps"
	"testing"

	"google.golang.org/protobuf/proto"

	"factfold/chassis"
	"factfold/chassis/testing/chassistest"

	contract "service/gen/{{cookiecutter.__package_path}}"
	"service/internal/app"
	"service/internal/views"
)

// counts is how many have each name, after two of them were created and renamed in some order.
func counts(t *testing.T, order ...string) map[string]uint64 {
	t.Helper()
	running := chassistest.Run(t, app.Service())
	facts := map[string][]proto.Message{
		"1": {
			&contract.{{cookiecutter.__go_aggregate}}Created{Id: "1", Name: "one"},
			&contract.{{cookiecutter.__go_aggregate}}Renamed{Id: "1", Name: "two"},
		},
		"2": {
			&contract.{{cookiecutter.__go_aggregate}}Created{Id: "2", Name: "one"},
			&contract.{{cookiecutter.__go_aggregate}}Renamed{Id: "2", Name: "one"},
		},
	}
	seen := map[string]uint64{}
	for _, id := range order {
		running.Publish(t.Context(), facts[id][seen[id]], chassis.At(seen[id]))
		seen[id]++
	}
	found := map[string]uint64{}
	for name, count := range chassis.RowsOf(running.Query(), views.{{cookiecutter.__go_plural}}ByName).All() {
		found[name] = count.GetValue()
	}
	return found
}

func TestEachNameIsCounted(t *testing.T) {
	if found := counts(t, "1", "2"); !maps.Equal(found, map[string]uint64{"one": 2}) {
		t.Errorf("it counts %v", found)
	}
}

func TestANameThatIsGivenUpIsGone(t *testing.T) {
	if found := counts(t, "1", "1"); !maps.Equal(found, map[string]uint64{"two": 1}) {
		t.Errorf("it counts %v", found)
	}
}

func TestItDoesNotMatterWhoseFactsComeFirst(t *testing.T) {
	for _, order := range [][]string{
		{"1", "1", "2", "2"},
		{"1", "2", "1", "2"},
		{"1", "2", "2", "1"},
		{"2", "1", "1", "2"},
		{"2", "1", "2", "1"},
		{"2", "2", "1", "1"},
	} {
		t.Run(fmt.Sprint(order), func(t *testing.T) {
			if found := counts(t, order...); !maps.Equal(found, map[string]uint64{"one": 1, "two": 1}) {
				t.Errorf("it counts %v", found)
			}
		})
	}
}

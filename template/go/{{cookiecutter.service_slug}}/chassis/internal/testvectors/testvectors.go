// Package testvectors reads the vectors that every language must meet, for tests of the chassis.
package testvectors

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// Cases are those of one file below tests/vectors of factfold's own repository. A service carries a
// copy of this module and not of them: there the test is skipped.
func Cases[Case any](t *testing.T, name string) []Case {
	t.Helper()
	folder, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		data, err := os.ReadFile(filepath.Join(folder, "tests", "vectors", name+".json"))
		if err == nil {
			var found struct{ Cases []Case }
			if err := json.Unmarshal(data, &found); err != nil || len(found.Cases) == 0 {
				t.Fatalf("%s: %d cases, %v", name, len(found.Cases), err)
			}
			return found.Cases
		}
		parent := filepath.Dir(folder)
		if parent == folder {
			t.Skip("tests/vectors are not here")
		}
		folder = parent
	}
}

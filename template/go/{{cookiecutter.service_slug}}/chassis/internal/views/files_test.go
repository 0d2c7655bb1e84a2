package views

import (
	"os"
	"path/filepath"
	"testing"
)

func TestASnapshotThatAClockWroteLaterStaysBehind(t *testing.T) {
	f := newFiles(t.TempDir(), "shop", NewView("orders"), nil)
	later := filepath.Join(f.folder, f.stem+"-09000000000000000000.snapshot")
	if err := os.WriteFile(later, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := f.write(t.Context(), &snapshot{}); err != nil {
		t.Fatal(err)
	}
	if all := f.all(""); len(all) != 2 || all[1] != later {
		t.Errorf("the newest one comes first: %v", all)
	}
}

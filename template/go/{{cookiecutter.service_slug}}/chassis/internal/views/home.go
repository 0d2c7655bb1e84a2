package views

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
)

// Home is where the views of one service are kept. Its zero value keeps nothing.
type Home struct {
	service  string
	folder   string // of snapshots; empty: none are kept
	first    bool   // this process writes them; the others beside it only begin with them
	alarm    func(text string)
	instance string // whose cursors they are
	lasting  bool   // the same one after a restart
}

var instanceText = regexp.MustCompile(`^[0-9a-f]{16}$`)

// NewHome takes the instance from the folder, or puts it there. alarm is told in one line what an
// operator must know.
func NewHome(service, folder string, first bool, alarm func(text string)) *Home {
	id := make([]byte, 8)
	_, _ = rand.Read(id) // it never fails
	home := &Home{
		service: service, folder: folder, first: first, alarm: alarm,
		instance: hex.EncodeToString(id),
	}
	if folder != "" && first {
		if err := home.remember(filepath.Join(folder, "instance")); err != nil {
			alarm(fmt.Sprintf("no snapshots can be kept: %v; mend FACTFOLD_SNAPSHOT_DIR", err))
		}
	}
	return home
}

func (h *Home) remember(file string) error {
	if err := os.MkdirAll(h.folder, 0o777); err != nil {
		return err
	}
	mine := file + "." + h.instance
	defer os.Remove(mine)
	if err := os.WriteFile(mine, []byte(h.instance), 0o666); err != nil {
		return err
	}
	// Whole, and only the first one.
	if err := os.Link(mine, file); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	found, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if !instanceText.Match(found) {
		return fmt.Errorf("%s is damaged, remove it", file)
	}
	h.instance, h.lasting = string(found), true
	return nil
}

func logger() *slog.Logger { return slog.Default().With("logger", "factfold.views") }

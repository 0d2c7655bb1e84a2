package views

import (
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"slices"

	"factfold/chassis/internal/contract"
)

// language is of snapshots: no language reads another one's.
const language = "go"

// fingerprint is the hash of what makes a view's rows what they are: a snapshot with another one is
// not used.
//
// The code of the folds, all that they call, and the types of rows and events count as the bytes of
// this program. Nothing smaller is sure to change with them: what a fold calls is not to be found
// out in a running program. So a build that differs in anything rebuilds its views, and the same
// build, on any machine, does not. Joins and aggregates are computed when rows are loaded, and
// count all the same.
func fingerprint(
	view *View, folds []Fold, streams []string, contract *contract.Contract, journal bool,
) ([]byte, error) {
	digest := sha256.New()
	put := func(parts ...any) {
		for _, part := range parts {
			text := fmt.Sprint(part)
			fmt.Fprintf(digest, "%d:%s", len(text), text)
		}
	}
	put(language, view.Name, journal)
	for _, table := range view.folded() {
		put("table", table.Name, table.Row.Descriptor().FullName())
	}
	for _, fold := range folds { // in the order in which they are called
		put("fold", fold.Event.Descriptor().FullName(), fold.Into.Name)
	}
	for _, name := range slices.Sorted(slices.Values(streams)) {
		put("stream", name, contract.Streams[name].Partitions)
	}
	put("program")
	if err := hashProgram(digest); err != nil {
		return nil, fmt.Errorf("the program cannot be read: %w", err)
	}
	return digest.Sum(nil), nil
}

func hashProgram(into io.Writer) error {
	// On Linux this is what runs, also after the file was replaced.
	file, err := os.Open("/proc/self/exe")
	if err != nil {
		var path string
		if path, err = os.Executable(); err != nil {
			return err
		}
		if file, err = os.Open(path); err != nil {
			return err
		}
	}
	defer file.Close()
	_, err = io.Copy(into, file)
	return err
}

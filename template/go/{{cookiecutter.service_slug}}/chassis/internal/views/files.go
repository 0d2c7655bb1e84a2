package views

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	factfoldv1 "factfold/chassis/factfold/v1"
)

const (
	kept      = 2         // good files of a view; the same for those that were set aside
	abandoned = time.Hour // nobody goes on with a partial file of that age
)

// files are the snapshots of one view in a folder. A file is written beside and renamed, so that it
// is there whole or not at all. One that is damaged is set aside.
type files struct {
	folder string
	stem   string
	view   *View
	kind   kind
}

func newFiles(folder, service string, view *View, fingerprint []byte) *files {
	stem := strings.ReplaceAll(url.QueryEscape(service+"."+view.Name), "+", "%20")
	return &files{folder, stem, view, kind{service, view.Name, fingerprint}}
}

// load is the newest good snapshot that fits; nil if there is none.
func (f *files) load(ctx context.Context) (*snapshot, error) {
	misfit := ""
	for _, path := range f.all("") {
		var found *snapshot
		err := f.judge(path, func() error {
			parts, header, err := openSnapshot(ctx, path)
			if err != nil {
				return err
			}
			defer parts.close()
			if f.kind.fits(header) {
				found, err = parts.assemble(f.view, header)
				return err
			}
			if misfit == "" {
				misfit = "cannot use"
				if header.Format == snapshotFormat && header.Service == f.kind.service {
					misfit = "has changed since"
				}
			}
			return nil
		})
		if found != nil || err != nil {
			return found, err
		}
	}
	if misfit != "" {
		logger().Info(fmt.Sprintf("view %s %s its snapshot: rebuilding", f.view.Name, misfit))
	}
	return nil, nil
}

// knows is the name of a good file that has positions in the stream; empty if there is none. One
// that was set aside because of the log knows it, too.
func (f *files) knows(ctx context.Context, stream string) string {
	for _, path := range f.all(`(\.outdated)?`) {
		known := false
		_ = f.look(ctx, path, func(header *factfoldv1.SnapshotHeader) {
			known = slices.ContainsFunc(header.Positions, func(at *factfoldv1.SnapshotPosition) bool {
				return at.Stream == stream
			})
		})
		if known {
			return filepath.Base(path)
		}
	}
	return ""
}

// tidy keeps two good files that fit, and returns where both go on from, at the latest, if there
// are two: so the view need not read again from the start when one turns out to be damaged.
func (f *files) tidy(ctx context.Context) (positions, error) {
	var good []positions
	for _, path := range f.all("") {
		if len(good) == kept {
			_ = os.Remove(path)
			continue
		}
		if err := f.look(ctx, path, func(header *factfoldv1.SnapshotHeader) {
			if f.kind.fits(header) {
				good = append(good, positionsOf(header))
			}
		}); err != nil {
			return nil, err
		}
	}
	if aside := f.all(`(\.[a-z]+)+`); len(aside) > kept {
		for _, path := range aside[kept:] {
			_ = os.Remove(path)
		}
	}
	for _, path := range f.named(`\.partial`) {
		if info, err := os.Stat(path); err == nil && time.Since(info.ModTime()) > abandoned {
			_ = os.Remove(path)
		}
	}
	if len(good) < kept {
		return nil, nil
	}
	return earlier(good[0], good[1]), nil
}

// setAside takes all of them away: the log says otherwise.
func (f *files) setAside() error {
	var failures []error
	for _, path := range f.all("") {
		failures = append(failures, os.Rename(path, path+".outdated"))
	}
	return errors.Join(failures...)
}

// write adds a file.
func (f *files) write(ctx context.Context, s *snapshot) error {
	if err := os.MkdirAll(f.folder, 0o777); err != nil {
		return err
	}
	nanos := time.Now().UnixNano()
	// A clock that was set back must not make an older file the newest.
	if all := f.all(""); len(all) > 0 {
		name := strings.TrimSuffix(all[0], ".snapshot")
		newest, err := strconv.ParseInt(name[len(name)-20:], 10, 64)
		if err == nil {
			nanos = max(nanos, newest+1)
		}
	}
	whole := filepath.Join(f.folder, fmt.Sprintf("%s-%020d", f.stem, nanos))
	if err := f.writePartial(ctx, whole+".partial", s); err != nil {
		_ = os.Remove(whole + ".partial")
		return err
	}
	if err := os.Rename(whole+".partial", whole+".snapshot"); err != nil {
		return err
	}
	folder, err := os.Open(f.folder)
	if err != nil {
		return err
	}
	defer folder.Close()
	return folder.Sync()
}

func (f *files) writePartial(ctx context.Context, path string, s *snapshot) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return err
	}
	err = writeSnapshot(ctx, file, f.kind, s)
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

// all are the snapshots with this further ending, the newest first.
func (f *files) all(ending string) []string { return f.named(`\.snapshot` + ending) }

func (f *files) named(ending string) []string {
	name := regexp.MustCompile(`^` + regexp.QuoteMeta(f.stem) + `-\d{20}` + ending + `$`)
	entries, err := os.ReadDir(f.folder)
	if err != nil {
		return nil
	}
	var found []string
	for _, entry := range slices.Backward(entries) { // they are sorted
		if name.MatchString(entry.Name()) {
			found = append(found, filepath.Join(f.folder, entry.Name()))
		}
	}
	return found
}

// look calls do with the header of a good file.
func (f *files) look(ctx context.Context, path string, do func(*factfoldv1.SnapshotHeader)) error {
	return f.judge(path, func() error {
		parts, header, err := openSnapshot(ctx, path)
		if err == nil {
			parts.close()
			do(header)
		}
		return err
	})
}

// judge sets a file aside that is damaged, and passes over one that cannot be read. Only an error of
// a context is returned.
func (f *files) judge(path string, read func() error) error {
	err := read()
	var cannot *fs.PathError
	switch {
	case err == nil:
	case errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.As(err, &cannot):
		logger().Warn(fmt.Sprintf("snapshot %s cannot be read: %v", path, err))
	default:
		logger().Warn(fmt.Sprintf("snapshot %s is damaged (%v): set aside as *.damaged", path, err))
		// It fails if another instance was faster, or the folder is not ours to change.
		_ = os.Rename(path, path+".damaged")
	}
	return nil
}

// earlier is where both are; instances that share a folder need not be equally far.
func earlier(one, other positions) positions {
	found := positions{}
	for key, at := range one {
		there, ok := other[key]
		switch {
		case !ok || there.epoch != at.epoch:
		case there.anchor.ID.N < at.anchor.ID.N:
			found[key] = there
		default:
			found[key] = at
		}
	}
	return found
}

// Package reactions is what the probe does about an input.
package reactions

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"factfold/chassis"

	contract "service/gen/probe/v1"
)

// obey does what an input tells its reactions to do before they answer.
func obey(ctx context.Context, event *contract.Input, call *chassis.Reacting, reaction string) error {
	do := event.GetDo()
	if do.GetOnly() != "" && do.GetOnly() != reaction {
		return nil
	}
	folder := os.Getenv("PROBE_FOLDER")
	if err := sleep(ctx, time.Duration(do.GetSleepMs())*time.Millisecond); err != nil {
		return err
	}
	for exists(folder, do.GetWaitWhile()) {
		if err := sleep(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
	fails := do.GetFailAlways() || uint64(time.Now().UnixMilli()) < do.GetFailUntilMs()
	if do.GetFailTimes() > 0 {
		runs, err := counted(folder, reaction, call)
		if err != nil {
			return err
		}
		fails = fails || runs <= int64(do.GetFailTimes())
	}
	if fails || exists(folder, do.GetFailWhile()) {
		return fmt.Errorf("told to fail for %s", event.GetKey())
	}
	return nil
}

// counted is how often the reaction has run for the fact, this time too.
func counted(folder, reaction string, call *chassis.Reacting) (int64, error) {
	id, err := call.Fact.ID()
	if err != nil {
		return 0, err
	}
	runs, err := os.OpenFile(
		filepath.Join(folder, fmt.Sprintf("%s-%s", reaction, id)), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o666,
	)
	if err != nil {
		return 0, err
	}
	defer func() { _ = runs.Close() }()
	if _, err := runs.WriteString("."); err != nil {
		return 0, err
	}
	found, err := runs.Stat()
	if err != nil {
		return 0, err
	}
	return found.Size(), nil
}

func exists(folder, name string) bool {
	if name == "" {
		return false
	}
	_, err := os.Stat(filepath.Join(folder, name))
	return err == nil
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func output(event *contract.Input, call *chassis.Reacting, reaction, key string) (*contract.Output, error) {
	meta, err := call.Fact.Meta()
	if err != nil {
		return nil, err
	}
	return &contract.Output{
		Key:      key,
		Reaction: reaction,
		Position: call.Fact.Position().String(),
		Id:       meta.GetId(),
		Of:       event.GetKey(),
		Number:   event.GetNumber(),
		Count:    1,
	}, nil
}

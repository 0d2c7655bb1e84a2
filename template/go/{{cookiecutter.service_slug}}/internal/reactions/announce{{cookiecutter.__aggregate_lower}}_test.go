package reactions_test

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"factfold/chassis"
	"factfold/chassis/testing/chassistest"

	contract "service/gen/{{cookiecutter.__package_path}}"
	"service/internal/app"
)

func TestANewOneIsAnnounced(t *testing.T) {
	var said lines
	before := slog.Default()
	t.Cleanup(func() { slog.SetDefault(before) })
	slog.SetDefault(slog.New(slog.NewTextHandler(&said, nil)))
	running := chassistest.Run(t, app.Service())
	running.Publish(t.Context(), &contract.{{cookiecutter.__go_aggregate}}Created{Id: "1"}, chassis.At(0))
	chassistest.Eventually(t, func() bool { return strings.Contains(said.String(), "announced 1") })
}

// lines is what several goroutines log.
type lines struct {
	lock sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(text []byte) (int, error) {
	l.lock.Lock()
	defer l.lock.Unlock()
	return l.text.Write(text)
}

func (l *lines) String() string {
	l.lock.Lock()
	defer l.lock.Unlock()
	return l.text.String()
}

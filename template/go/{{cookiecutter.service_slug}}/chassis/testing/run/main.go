// Command run runs a service with a Redis of its own beside it:
//
//	go run factfold/chassis/testing/run ./cmd/service
//
// The log and snapshots of the views stay in .redis/ of the current folder. With FACTFOLD_REDIS_URL
// set, that Redis is used and none is started.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"factfold/chassis/testing/redistest"
)

const data = ".redis"

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "one package is run, such as ./cmd/service")
		os.Exit(2)
	}
	code, err := run(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

// run is the service's exit code.
func run(program string) (int, error) {
	if err := os.MkdirAll(data, 0o777); err != nil {
		return 1, err
	}
	if os.Getenv("FACTFOLD_REDIS_URL") == "" {
		stop, err := withRedis()
		if err != nil {
			return 1, err
		}
		defer stop()
	}
	built := filepath.Join(data, "service")
	build := exec.Command("go", "build", "-o", built, program)
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		return 1, fmt.Errorf("%s was not built: %w", program, err)
	}
	service := exec.Command(built)
	service.Stdin, service.Stdout, service.Stderr = os.Stdin, os.Stdout, os.Stderr
	// It is none of the service's settings, and a service refuses what it does not know.
	service.Env = slices.DeleteFunc(os.Environ(), func(variable string) bool {
		return strings.HasPrefix(variable, redistest.Binary+"=")
	})
	// A Ctrl-C goes to the whole group; the service drains, and Redis has to outlive that.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	if err := service.Start(); err != nil {
		return 1, err
	}
	go func() {
		for number := range signals {
			if number == syscall.SIGTERM {
				_ = service.Process.Signal(number)
			}
		}
	}()
	err := service.Wait()
	var ended *exec.ExitError
	if errors.As(err, &ended) {
		return max(ended.ExitCode(), 1), nil
	}
	return 0, err
}

// withRedis starts a Redis and says so in the environment.
func withRedis() (stop func(), err error) {
	binary, err := redistest.Find()
	if err != nil {
		return nil, err
	}
	server, err := redistest.Open(binary, data)
	if err != nil {
		return nil, err
	}
	settings := map[string]string{
		"FACTFOLD_REDIS_URL":    server.URL(),
		"FACTFOLD_SNAPSHOT_DIR": filepath.Join(data, "snapshots"),
	}
	for name, text := range settings {
		if os.Getenv(name) == "" {
			if err := os.Setenv(name, text); err != nil {
				server.Stop()
				return nil, err
			}
		}
	}
	return server.Stop, nil
}

// Package redistest starts a real Redis or Valkey of one's own: on loopback, ended with its parent.
//
// It knows nothing of the chassis, so that every package of it can be tested with it.
package redistest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Binary is the environment variable that names the server to start.
const Binary = "FACTFOLD_REDIS_SERVER"

// ErrNotFound says that there is no server on this machine that could be started.
var ErrNotFound = errors.New("no Redis server was found: install redis-server or valkey-server, " +
	"6.2 or newer, so that it is on PATH, or name one in " + Binary + "; go test -short does without")

const (
	startTime = 20 * time.Second
	endTime   = 10 * time.Second
)

// The keeper ends the server when its stdin closes, so also after a SIGKILL of whoever holds the
// other end. It has a session of its own, clear of a Ctrl-C that its parent has to answer.
const keeper = `exec 3<&0
"$@" </dev/null >server.log 2>&1 &
server=$!
echo "$server"
{ read -r _ <&3; kill "$server"; } >/dev/null 2>&1 &
watch=$!
wait "$server"
kill "$watch" 2>/dev/null`

// Server is a server with an append-only file.
type Server struct {
	// Port is where it listens on 127.0.0.1.
	Port int
	// Dir is its data folder.
	Dir string

	command []string
	pid     int
	stdin   *os.File
	ended   chan struct{}
}

// Start starts a server that ends with the test, with further options such as "--maxmemory", "64mb".
// Need says what becomes of the test where there is none.
func Start(t testing.TB, options ...string) *Server {
	t.Helper()
	binary := Need(t)
	server, err := Open(binary, t.TempDir(), options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	return server
}

// Need is the server to start, as Find returns it. Without one on this machine the test fails; with
// -short it is skipped.
func Need(t testing.TB) string {
	t.Helper()
	binary, err := Find()
	if errors.Is(err, ErrNotFound) && testing.Short() {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return binary
}

// Find returns the server to start: the one that FACTFOLD_REDIS_SERVER names, else one on PATH.
func Find() (string, error) {
	if named := os.Getenv(Binary); named != "" {
		path, err := exec.LookPath(named)
		if err != nil {
			return "", fmt.Errorf("%s: %w", Binary, err)
		}
		return path, nil
	}
	for _, name := range []string{"redis-server", "valkey-server"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", ErrNotFound
}

// Open starts the server binary with its data in dir, on a free port, and returns when it answers.
func Open(binary, dir string, options ...string) (*Server, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, err
	}
	for {
		port := FreePort()
		command := []string{
			binary, "--port", strconv.Itoa(port), "--dir", dir, "--bind", "127.0.0.1",
			"--protected-mode", "yes", "--appendonly", "yes", "--appendfsync", "everysec",
			"--save", "", "--maxmemory-policy", "noeviction",
		}
		server := &Server{Port: port, Dir: dir, command: append(command, options...)}
		err := server.StartAgain()
		if !errors.Is(err, syscall.EADDRINUSE) {
			return server, err
		}
	}
}

// FreePort returns a port of loopback that nothing listens on now.
//
// It is below the ports that systems give to outgoing connections: a client that keeps connecting
// while the server is down would otherwise be given the server's port one day, and meet itself.
func FreePort() int {
	for {
		port := 10_000 + rand.IntN(22_000)
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			_ = listener.Close()
			return port
		}
	}
}

// URL is the server's URL.
func (s *Server) URL() string { return fmt.Sprintf("redis://127.0.0.1:%d/0", s.Port) }

// Pid is the server's own process id, not its keeper's.
func (s *Server) Pid() int { return s.pid }

// Kill ends the server with SIGKILL. Its data stays for StartAgain.
func (s *Server) Kill() { s.end(syscall.SIGKILL) }

// Stop ends the server. Its data stays.
func (s *Server) Stop() { s.end(syscall.SIGTERM) }

// Flush removes all data.
func (s *Server) Flush(ctx context.Context) error {
	_, err := s.ask(ctx, "FLUSHALL")
	return err
}

// StartAgain starts on the same port with the same data; a server that still runs is ended first.
func (s *Server) StartAgain() error {
	s.Stop()
	keep := exec.Command("sh", append([]string{"-c", keeper, "sh"}, s.command...)...)
	keep.Dir = s.Dir
	keep.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	stdin, hold, err := os.Pipe()
	if err != nil {
		return err
	}
	keep.Stdin = stdin
	stdout, err := keep.StdoutPipe()
	if err != nil {
		return err
	}
	err = keep.Start()
	_ = stdin.Close()
	if err != nil {
		_ = hold.Close()
		return fmt.Errorf("the keeper of the Redis server: %w", err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err == nil {
		s.pid, err = strconv.Atoi(strings.TrimSpace(line))
	}
	s.stdin, s.ended = hold, make(chan struct{})
	go func() {
		_ = keep.Wait()
		close(s.ended)
	}()
	if err != nil {
		s.Stop()
		return fmt.Errorf("the keeper of the Redis server: %w", err)
	}
	return s.wait()
}

func (s *Server) end(signal syscall.Signal) {
	if s.stdin == nil {
		return
	}
	defer func() {
		_ = s.stdin.Close()
		s.stdin = nil
	}()
	for _, number := range []syscall.Signal{signal, syscall.SIGKILL} {
		select {
		case <-s.ended:
			return
		default:
			_ = syscall.Kill(s.pid, number)
		}
		select {
		case <-s.ended:
			return
		case <-time.After(endTime):
		}
	}
}

// wait returns when the server answers as itself: another one may have taken the port.
func (s *Server) wait() error {
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	for {
		if answer, err := s.ask(ctx, "PING", "INFO server"); err == nil &&
			strings.Contains(answer, "+PONG") &&
			strings.Contains(answer, fmt.Sprintf("process_id:%d\r", s.pid)) {
			return nil
		}
		select {
		case <-s.ended:
			return s.why()
		case <-ctx.Done():
			s.Stop()
			return fmt.Errorf("the Redis server on port %d does not answer", s.Port)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// why is what a server that ended at once has said.
func (s *Server) why() error {
	log, _ := os.ReadFile(filepath.Join(s.Dir, "server.log"))
	lines := strings.Split(strings.TrimSpace(string(log)), "\n")
	if strings.Contains(string(log), "Address already in use") {
		return fmt.Errorf("port %d on 127.0.0.1: %w", s.Port, syscall.EADDRINUSE)
	}
	return fmt.Errorf("the Redis server ended at once: %s", lines[len(lines)-1])
}

// ask sends commands and QUIT, and returns all that the server answers.
func (s *Server) ask(ctx context.Context, commands ...string) (string, error) {
	var dialer net.Dialer
	connection, err := dialer.DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", s.Port))
	if err != nil {
		return "", err
	}
	defer func() { _ = connection.Close() }()
	if deadline, ok := ctx.Deadline(); ok {
		_ = connection.SetDeadline(deadline)
	}
	sent := strings.Join(append(commands, "QUIT"), "\r\n") + "\r\n"
	if _, err := connection.Write([]byte(sent)); err != nil {
		return "", err
	}
	var answer strings.Builder
	_, err = bufio.NewReader(connection).WriteTo(&answer)
	return answer.String(), err
}

package redistest_test

import (
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"factfold/chassis/testing/redistest"
)

func TestAServerThatWasKilledComesBackOnItsPort(t *testing.T) {
	server := redistest.Start(t)
	url, first := server.URL(), server.Pid()
	server.Kill()
	if runs(first) {
		t.Fatal("it still runs")
	}
	if err := server.StartAgain(); err != nil {
		t.Fatal(err)
	}
	if server.URL() != url || server.Pid() == first {
		t.Errorf("it is %s, process %d, after %s, process %d", server.URL(), server.Pid(), url, first)
	}
	if err := server.Flush(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestAServerEndsWithAParentThatIsKilled(t *testing.T) {
	if os.Getenv("REDISTEST_PARENT") != "" {
		server := redistest.Start(t)
		if err := os.WriteFile(os.Getenv("REDISTEST_PARENT"), []byte(strconv.Itoa(server.Pid())), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		select {}
	}
	redistest.Need(t)
	said := t.TempDir() + "/pid"
	parent := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	parent.Env = append(os.Environ(), "REDISTEST_PARENT="+said)
	out, _ := parent.CombinedOutput()
	text, err := os.ReadFile(said)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	pid, err := strconv.Atoi(string(text))
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); runs(pid); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("process %d still runs", pid)
		}
	}
}

func runs(pid int) bool { return syscall.Kill(pid, 0) == nil }

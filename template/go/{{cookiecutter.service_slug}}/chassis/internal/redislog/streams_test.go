package redislog

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"factfold/chassis/internal/fault"
	"factfold/chassis/internal/testvectors"
	"factfold/chassis/internal/wire"
)

func TestAStreamIsCreatedOnceWithOneEpoch(t *testing.T) {
	s := startServer(t)
	epochs := s.create("orders", 3)
	again := s.create("orders", 3)
	for partition, epoch := range epochs {
		if len(epoch) != 16 || epoch != epochs[0] || again[partition] != epoch {
			t.Errorf("%v, then %v", epochs, again)
		}
	}
	heads, err := WaitForStream(t.Context(), s.redis(), "orders")
	if err != nil || len(heads) != 3 || heads[2].Partitions != 3 || heads[2].Epoch != epochs[2] {
		t.Errorf("%v %v", heads, err)
	}
}

func TestAStreamThatMustNotBeCreatedIsNot(t *testing.T) {
	for name, each := range map[string]struct {
		do       func(*server)
		expected string
		kind     error
		says     string
	}{
		"it is expected": {func(s *server) {}, "FACTFOLD_EXPECT_LOG is set", fault.KindLogReplaced,
			"partition 0 is absent, and FACTFOLD_EXPECT_LOG is set"},
		"another partition has facts": {func(s *server) {
			s.create("orders", 2)
			s.do("HSET", wire.KeysOf("orders", 0).Head(), "n", 1)
			s.do("DEL", wire.KeysOf("orders", 1).Head())
		}, "", fault.KindLogReplaced, "partition 1 is absent, and others hold facts"},
		"a log without its head": {func(s *server) {
			s.do("XADD", wire.KeysOf("orders", 0).Log(), "1-1", "x", "y")
		}, "", fault.KindLogReplaced, "exists without its head"},
		"another number of partitions": {func(s *server) { s.create("orders", 3) }, "", nil,
			"stream orders has 3 partitions and the contract says 2"},
	} {
		t.Run(name, func(t *testing.T) {
			s := startServer(t)
			each.do(s)
			_, err := CreateStream(t.Context(), s.redis(), "orders", 2, func() string { return each.expected })
			var wiring *fault.WiringError
			if each.kind == nil && !errors.As(err, &wiring) || each.kind != nil && !errors.Is(err, each.kind) {
				t.Errorf("%v", err)
			}
			if err == nil || !strings.Contains(err.Error(), each.says) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestWhoComesFirstWaitsForTheServerAndTheStream(t *testing.T) {
	s := startServer(t)
	s.kill()
	found := make(chan error, 1)
	go func() {
		_, err := WaitForStream(t.Context(), s.redis(), "orders")
		found <- err
	}()
	s.start()
	s.create("orders", 2)
	if err := <-found; err != nil {
		t.Error(err)
	}
}

// TestTheScriptsDoWhatTheVectorsSay runs the copies of the scripts that this module carries.
func TestTheScriptsDoWhatTheVectorsSay(t *testing.T) {
	type step struct {
		Script     string
		Keys, Argv []string
		Reply      any
	}
	type one struct {
		Name         string
		Given, After map[string]map[string]string
		Steps        []step
	}
	vectors := testvectors.Cases[one](t, "scripts")
	s := startServer(t)
	link := s.link()
	defer link.Close()
	for _, each := range vectors {
		s.do("FLUSHALL")
		for key, fields := range each.Given {
			for name, value := range fields {
				s.do("HSET", key, name, value)
			}
		}
		for _, step := range each.Steps {
			args := make([]any, len(step.Argv))
			for i, arg := range step.Argv {
				args[i] = arg
			}
			reply, err := link.Script(context.Background(), step.Script, step.Keys, args...)
			if err != nil || !reflect.DeepEqual(asText(reply), step.Reply) {
				t.Errorf("%s: %s has answered %v, not %v, %v", each.Name, step.Script, reply, step.Reply, err)
			}
		}
		found := map[string]map[string]string{}
		for _, key := range List(s.do("KEYS", "*")) {
			if s.do("TYPE", key) != "hash" {
				continue
			}
			fields := map[string]string{}
			pairs := List(s.do("HGETALL", key))
			for i := 0; i < len(pairs); i += 2 {
				name, value := Text(pairs[i]), Text(pairs[i+1])
				if strings.HasPrefix(each.After[Text(key)][name], "*") { // the server's time
					value = value[strings.IndexAny(value+"|", "|"):]
					value = "*" + value
				}
				fields[name] = value
			}
			found[Text(key)] = fields
		}
		if !reflect.DeepEqual(found, each.After) {
			t.Errorf("%s: left %v, not %v", each.Name, found, each.After)
		}
	}
}

func asText(reply any) any {
	parts, ok := reply.([]any)
	if !ok {
		return Text(reply)
	}
	texts := make([]any, len(parts))
	for i, part := range parts {
		texts[i] = asText(part)
	}
	return texts
}

func TestALinkSaysWhyItIsLost(t *testing.T) {
	s := startServer(t)
	s.do("CONFIG", "SET", "requirepass", "secret")
	for name, each := range map[string]struct{ url, says string }{
		"nobody is there":         {"redis://127.0.0.1:1", "connection refused"},
		"another password":        {"redis://:other@" + strings.TrimPrefix(s.url(), "redis://"), "WRONGPASS"},
		"no password":             {s.url(), "NOAUTH"},
		"TLS where there is none": {"rediss://" + strings.TrimPrefix(s.url(), "redis://"), "redis:// in FACTFOLD_REDIS_URL"},
	} {
		_, err := New(parsed(t, each.url)).Link(t.Context(), "any")
		var lost *LinkLost
		if !errors.Is(err, ErrLost) || !errors.As(err, &lost) || !lost.NoLink || !strings.Contains(err.Error(), each.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestALinkEndsWithItsServerAndWithItsCaller(t *testing.T) {
	s := startServer(t)
	link := s.link()
	ended := make(chan error, 1)
	go func() {
		_, err := link.Do(t.Context(), "BLPOP", "nothing", 4)
		ended <- err
	}()
	time.Sleep(50 * time.Millisecond)
	s.kill()
	if err := <-ended; !errors.Is(err, ErrLost) || !Passing(err) {
		t.Errorf("%v", err)
	}
	if _, err := link.Do(t.Context(), "PING"); !errors.Is(err, ErrLost) {
		t.Errorf("a link that was lost is used: %v", err)
	}
	s.start()
	link = s.link()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := link.Do(ctx, "BLPOP", "nothing", 4); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	link = s.link()
	if _, err := link.Pipe(t.Context(), 50*time.Millisecond, []any{"BLPOP", "nothing", 4}); !errors.Is(err, ErrLost) ||
		err.Error() != "no reply within 0.05 s" {
		t.Errorf("%v", err)
	}
}

func TestErrorsOfAPipeStandInTheirPlace(t *testing.T) {
	s := startServer(t)
	link := s.link()
	defer link.Close()
	replies, err := link.Pipe(t.Context(), replyTimeout,
		[]any{"HSET", "a", "f", "1"}, []any{"GET", "a"}, []any{"HGET", "a", "g"}, []any{"HGETALL", "a"})
	if err != nil || replies[0] != int64(1) || replies[2] != nil || len(List(replies[3])) != 2 {
		t.Errorf("%v %v", replies, err)
	}
	failed, ok := replies[1].(error)
	if !ok || !strings.HasPrefix(failed.Error(), "WRONGTYPE") || !Passing(failed) {
		t.Errorf("%v", replies[1])
	}
}

func TestURLsAreTakenApart(t *testing.T) {
	for text, want := range map[string]string{
		"redis://127.0.0.1":                         "127.0.0.1:6379",
		"redis://user:p%40ss@h:1/3":                 "h:1",
		"rediss://[::1]:6380/0?ssl_ca_certs=ca.crt": "[::1]:6380",
		"unix:///tmp/redis.sock?db=2":               "/tmp/redis.sock",
		"unix://user:pw@/tmp/redis.sock":            "/tmp/redis.sock",
		"redis+cluster://a:1,b:2":                   "a:1,b:2",
		"redis+sentinel://a,b:2/name/1":             "a:26379,b:2",
		"rediss+sentinel://a/n?sentinel_password=x": "a:26379",
	} {
		url, err := ParseURL(text)
		if err != nil || url.Address() != want {
			t.Errorf("%s: %s %v", text, url.Address(), err)
		}
	}
	url := parsed(t, "redis://user:p%40ss@h:1/3")
	if url.username != "user" || url.password != "p@ss" || url.db != 3 {
		t.Errorf("%+v", url)
	}
	for _, text := range []string{
		"", "redis", "http://a", "redis://", "redis://a,b", "redis://a:0", "redis://a:99999", "redis://a/x",
		"redis://user:p/ss@a", "redis+cluster://a/1", "redis+cluster://a?db=1", "redis+sentinel://a",
		"redis://a?sentinel_password=x", "redis://a?what=1", "unix://a", "unix://:p/w@/sock", "unix:///a@b", "redis://:%zz@a", "redis://a?db=x",
		"redis+nothing://a",
	} {
		if url, err := ParseURL(text); err == nil {
			t.Errorf("%s is taken: %v", text, url)
		}
	}
}

func TestFilesOfTLSThatCannotBeUsedAreNamed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(file, []byte("none"), 0o600); err != nil {
		t.Fatal(err)
	}
	for text, says := range map[string]string{
		"redis://a":                               "",
		"rediss://a":                              "",
		"redis://a?ssl_ca_certs=x":                "ssl_ca_certs is for rediss://, which is TLS",
		"rediss://a?ssl_nothing=x":                "ssl_nothing is no option",
		"rediss://a?ssl_ca_certs=/nowhere":        "ssl_ca_certs=/nowhere cannot be read: no such file or directory",
		"rediss://a?ssl_ca_certs=" + file:         "must hold certificates in PEM",
		"rediss://a?ssl_keyfile=x":                "ssl_keyfile needs ssl_certfile beside it",
		"rediss://a?ssl_certfile=" + file:         "must hold a certificate and its key in PEM",
		"rediss://a?ssl_cert_reqs=sometimes":      "ssl_cert_reqs is required or none",
		"rediss://a?ssl_check_hostname=sometimes": "ssl_check_hostname is true or false",
	} {
		found := parsed(t, text).TLSProblem()
		if says == "" && found != "" || !strings.Contains(found, says) {
			t.Errorf("%s: %q", text, found)
		}
	}
}

// Package settings is what a service can be told from outside: FACTFOLD_* variables, each with a
// default. Tracing and metrics are configured by the standard OTEL_* variables instead.
package settings

import (
	"errors"
	"fmt"
	"math"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"factfold/chassis/internal/fault"
	"factfold/chassis/internal/redislog"
)

const prefix = "FACTFOLD_"

// Settings of one service. docs/settings.md says what each is for.
type Settings struct {
	RedisURL         string
	RedisReadURL     string
	Listen           string
	Processes        int
	TLSCertFile      string
	TLSKeyFile       string
	TLSCAFile        string
	HealthListen     string
	LogFormat        string
	LogLevel         string
	DrainTimeout     time.Duration
	DefaultDeadline  time.Duration
	AppendTimeout    time.Duration
	WaitReplicas     int
	ReadTimeout      time.Duration
	ExpectLog        bool
	MaxFactBytes     int
	AppendQueue      int
	ReactionAttempts int
	Lease            time.Duration
	SnapshotDir      string
	SnapshotInterval time.Duration
	KeepAge          time.Duration
	KeepFacts        int
}

// Default is what a service does that is told nothing.
func Default() Settings {
	return Settings{
		RedisURL:         "redis://127.0.0.1:6379/0",
		Listen:           "127.0.0.1:50051",
		Processes:        1,
		LogFormat:        "auto",
		LogLevel:         "INFO",
		DrainTimeout:     10 * time.Second,
		DefaultDeadline:  10 * time.Second,
		AppendTimeout:    2 * time.Second,
		ReadTimeout:      2 * time.Second,
		MaxFactBytes:     1 << 20,
		AppendQueue:      10_000,
		ReactionAttempts: 20,
		Lease:            5 * time.Second,
		SnapshotInterval: 300 * time.Second,
	}
}

// A setting takes a text, or says that it breaks the rule, which ends "it must be …".
type setting struct {
	name   string
	rule   string
	take   func(text string) error
	secret bool
}

var errRule = errors.New("the rule is broken")

func (s *Settings) table() []setting {
	const redisRule = "redis://[user:password@]host:port/db, redis+cluster://host:port,host:port or " +
		"redis+sentinel://host:port,host:port/name, special characters of the password " +
		"percent-encoded, with no option that redis-py does not know"
	return []setting{
		{"REDIS_URL", redisRule, redisURL(&s.RedisURL), true},
		{"REDIS_READ_URL", "a URL as that of FACTFOLD_REDIS_URL", redisURL(&s.RedisReadURL), true},
		listen("LISTEN", "host:port, such as 127.0.0.1:50051", &s.Listen),
		{"PROCESSES", "1, as one process of this service uses all cores", one(&s.Processes), false},
		file("TLS_CERT_FILE", "a file", &s.TLSCertFile),
		file("TLS_KEY_FILE", "a file", &s.TLSKeyFile),
		file("TLS_CA_FILE", "a file", &s.TLSCAFile),
		listen("HEALTH_LISTEN", "host:port, such as 0.0.0.0:50052", &s.HealthListen),
		choice("LOG_FORMAT", &s.LogFormat, "auto", "json", "text"),
		choice("LOG_LEVEL", &s.LogLevel, "DEBUG", "INFO", "WARNING", "ERROR"),
		seconds("DRAIN_TIMEOUT", &s.DrainTimeout),
		seconds("DEFAULT_DEADLINE", &s.DefaultDeadline),
		seconds("APPEND_TIMEOUT", &s.AppendTimeout),
		whole("WAIT_REPLICAS", "a whole number, 0 or above", 0, &s.WaitReplicas),
		seconds("READ_TIMEOUT", &s.ReadTimeout),
		choice("EXPECT_LOG", &s.ExpectLog, true, false),
		whole("MAX_FACT_BYTES", "a whole number above 0", 1, &s.MaxFactBytes),
		whole("APPEND_QUEUE", "a whole number above 0", 1, &s.AppendQueue),
		whole("REACTION_ATTEMPTS", "a whole number above 0", 1, &s.ReactionAttempts),
		seconds("LEASE", &s.Lease),
		file("SNAPSHOT_DIR", "a folder", &s.SnapshotDir),
		seconds("SNAPSHOT_INTERVAL", &s.SnapshotInterval),
		seconds("KEEP_AGE", &s.KeepAge),
		whole("KEEP_FACTS", "a whole number above 0", 1, &s.KeepFacts),
	}
}

func redisURL(into *string) func(string) error {
	return func(text string) error {
		*into = text
		_, err := redislog.ParseURL(text)
		return err
	}
}

func listen(name, rule string, into *string) setting {
	return setting{name, rule, func(text string) error {
		*into = text
		at := strings.LastIndex(text, ":")
		if at < 1 {
			return errRule
		}
		_, err := strconv.ParseUint(text[at+1:], 10, 16)
		return err
	}, false}
}

func one(into *int) func(string) error {
	return func(text string) error {
		if text != "1" {
			return errRule
		}
		*into = 1
		return nil
	}
}

func file(name, rule string, into *string) setting {
	return setting{name, rule, func(text string) error { *into = text; return nil }, false}
}

func choice[T any](name string, into *T, choices ...T) setting {
	names := make([]string, len(choices))
	for i, each := range choices {
		names[i] = strings.ToLower(fmt.Sprint(each))
	}
	return setting{name, "one of " + strings.Join(names, ", "), func(text string) error {
		at := slices.Index(names, strings.ToLower(text))
		if at < 0 {
			return errRule
		}
		*into = choices[at]
		return nil
	}, false}
}

func whole(name, rule string, least int, into *int) setting {
	return setting{name, rule, func(text string) (err error) {
		if *into, err = strconv.Atoi(text); err == nil && *into < least {
			return errRule
		}
		return err
	}, false}
}

func seconds(name string, into *time.Duration) setting {
	return setting{name, "a number of seconds above 0", func(text string) error {
		number, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsInf(number, 0) || !(number > 0) {
			return errRule
		}
		*into = time.Duration(math.Min(number*float64(time.Second), math.MaxInt64/2))
		return nil
	}, false}
}

// FromEnvironment reads the FACTFOLD_* variables of an environment, as os.Environ has it. An empty
// variable counts as absent. A secret is also read from the file that FACTFOLD_<NAME>_FILE names.
func FromEnvironment(environment []string) (Settings, error) {
	settings := Default()
	known, names := map[string]setting{}, []string{}
	for _, each := range settings.table() {
		variables := []string{prefix + each.name}
		if each.secret {
			variables = append(variables, prefix+each.name+"_FILE")
		}
		for _, variable := range variables {
			known[variable] = each
			names = append(names, variable)
		}
	}
	given := map[string]bool{}
	for _, variable := range slices.Sorted(slices.Values(environment)) {
		variable, text, _ := strings.Cut(variable, "=")
		if !strings.HasPrefix(variable, prefix) {
			continue
		}
		each, ok := known[variable]
		if !ok {
			return settings, fault.CannotStart("%s is not a setting: unset it, or did you mean %s?",
				variable, nearest(variable, names))
		}
		if text == "" {
			continue
		}
		name := prefix + each.name
		if given[name] {
			return settings, fault.CannotStart("%s and %s are both set: unset one of them", name, variable)
		}
		given[name] = true
		if variable != name {
			content, err := os.ReadFile(text)
			if err != nil {
				return settings, fault.CannotStart("%s names a file that cannot be read: %s", variable, fault.Reason(err))
			}
			text = strings.TrimSpace(string(content))
		}
		if err := each.take(text); err != nil {
			shown := "cannot be used"
			if !each.secret {
				shown = "is '" + text + "'"
			}
			return settings, fault.CannotStart("%s %s: it must be %s", variable, shown, each.rule)
		}
	}
	for _, each := range [][2]string{{"REDIS_URL", settings.RedisURL}, {"REDIS_READ_URL", settings.RedisReadURL}} {
		parsed, err := redislog.ParseURL(each[1])
		if problem := parsed.TLSProblem(); err == nil && problem != "" {
			return settings, fault.CannotStart("%s%s: %s", prefix, each[0], problem)
		}
	}
	return settings, nil
}

// RedisAddress is the log's URL without user, password and options: fit for a log line.
func (s Settings) RedisAddress() string {
	text, _, _ := strings.Cut(s.RedisURL, "?")
	scheme, rest, _ := strings.Cut(text, "://")
	host, path, slash := strings.Cut(rest, "/")
	if at := strings.LastIndex(host, "@"); at >= 0 {
		host = host[at+1:]
	}
	if slash {
		host += "/"
	}
	return scheme + "://" + host + path
}

// Secrets are the texts that must never be logged.
func (s Settings) Secrets() []string {
	var found []string
	for _, text := range []string{s.RedisURL, s.RedisReadURL} {
		address, query, _ := strings.Cut(text, "?")
		_, rest, _ := strings.Cut(address, "://")
		host, _, _ := strings.Cut(rest, "/")
		if at := strings.LastIndex(host, "@"); at >= 0 {
			_, password, _ := strings.Cut(host[:at], ":")
			plain, _ := url.PathUnescape(password)
			found = append(found, password, plain)
		}
		options, _ := url.ParseQuery(query)
		for _, name := range []string{"password", "sentinel_password", "ssl_password"} {
			for _, password := range options[name] {
				found = append(found, password, url.QueryEscape(password))
			}
		}
	}
	return slices.DeleteFunc(found, func(text string) bool { return text == "" })
}

// nearest is the name with the fewest letters to change.
func nearest(name string, names []string) string {
	return slices.MinFunc(names, func(a, b string) int { return distance(name, a) - distance(name, b) })
}

func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			changed := diagonal
			if a[i] != b[j] {
				changed++
			}
			diagonal = row[j+1]
			row[j+1] = min(changed, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

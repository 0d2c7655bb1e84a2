package settings

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestDefaultsWithoutAnyVariable(t *testing.T) {
	found, err := FromEnvironment([]string{"PATH=/bin", "FACTFOLD_LISTEN="})
	if err != nil || found != Default() {
		t.Errorf("%v %v", found, err)
	}
}

func TestValuesAreConverted(t *testing.T) {
	found, err := FromEnvironment([]string{
		"FACTFOLD_DRAIN_TIMEOUT=2.5", "FACTFOLD_EXPECT_LOG=True", "FACTFOLD_MAX_FACT_BYTES=4096",
		"FACTFOLD_LOG_FORMAT=JSON", "FACTFOLD_LOG_LEVEL=debug", "FACTFOLD_LISTEN=[::1]:0",
		"FACTFOLD_PROCESSES=1", "FACTFOLD_SNAPSHOT_DIR=/var/lib/snapshots", "FACTFOLD_KEEP_AGE=1e12",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.DrainTimeout, want.ExpectLog, want.MaxFactBytes = 2500*time.Millisecond, true, 4096
	want.LogFormat, want.LogLevel, want.Listen = "json", "DEBUG", "[::1]:0"
	want.SnapshotDir, want.KeepAge = "/var/lib/snapshots", found.KeepAge
	if found != want || found.KeepAge < 100*365*24*time.Hour {
		t.Errorf("%+v", found)
	}
}

func TestRefusalsSayWhatToDo(t *testing.T) {
	for given, want := range map[string]string{
		"REDIS_URI=x":         "FACTFOLD_REDIS_URI is not a setting: unset it, or did you mean FACTFOLD_REDIS_URL?",
		"LISTEN_FILE=/x":      "FACTFOLD_LISTEN_FILE is not a setting: unset it, or did you mean FACTFOLD_LISTEN?",
		"DRAIN_TIMEOUT=soon":  "FACTFOLD_DRAIN_TIMEOUT is 'soon': it must be a number of seconds above 0",
		"DRAIN_TIMEOUT=nan":   "FACTFOLD_DRAIN_TIMEOUT is 'nan': it must be a number of seconds above 0",
		"SNAPSHOT_INTERVAL=0": "FACTFOLD_SNAPSHOT_INTERVAL is '0': it must be a number of seconds above 0",
		"PROCESSES=4":         "FACTFOLD_PROCESSES is '4': it must be 1, as one process of this service uses all cores",
		"APPEND_QUEUE=0":      "FACTFOLD_APPEND_QUEUE is '0': it must be a whole number above 0",
		"WAIT_REPLICAS=-1":    "FACTFOLD_WAIT_REPLICAS is '-1': it must be a whole number, 0 or above",
		"EXPECT_LOG=maybe":    "FACTFOLD_EXPECT_LOG is 'maybe': it must be one of true, false",
		"LOG_FORMAT=xml":      "FACTFOLD_LOG_FORMAT is 'xml': it must be one of auto, json, text",
		"LISTEN=50051":        "FACTFOLD_LISTEN is '50051': it must be host:port, such as 127.0.0.1:50051",
		"REDIS_URL_FILE=/no":  "FACTFOLD_REDIS_URL_FILE names a file that cannot be read: No such file or directory",
	} {
		if _, err := FromEnvironment([]string{"FACTFOLD_" + given}); err == nil || err.Error() != want {
			t.Errorf("%s: %v", given, err)
		}
	}
	_, err := FromEnvironment([]string{"FACTFOLD_REDIS_URL_FILE=/x", "FACTFOLD_REDIS_URL=redis://a"})
	if err == nil || err.Error() != "FACTFOLD_REDIS_URL and FACTFOLD_REDIS_URL_FILE are both set: unset one of them" {
		t.Error(err)
	}
}

func TestAURLThatCannotBeReadIsRefusedWithoutBeingShown(t *testing.T) {
	for _, url := range []string{
		"http://h", "redis:///0", "redis://:pa/ss@host", "redis://:1/ss@host", "unix://:p/w@/sock",
		"redis://h?socket_timeout=x", "redis+cluster://h?db=3", "redis+cluster://h?foo=a",
		"redis://h?sentinel_password=a", "unix:///sock?foo=a", "redis+sentinel://h/facts?sentinel_passwort=a",
	} {
		_, err := FromEnvironment([]string{"FACTFOLD_REDIS_URL=" + url})
		if err == nil || !strings.HasPrefix(err.Error(), "FACTFOLD_REDIS_URL cannot be used: it must be ") ||
			strings.Contains(err.Error(), url) {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func TestASecretIsReadFromAFileAndNeverShown(t *testing.T) {
	file := filepath.Join(t.TempDir(), "url")
	content := "rediss://me:s%40cret@log.example:6380/2?password=s%40cret\n"
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	found, err := FromEnvironment([]string{"FACTFOLD_REDIS_URL_FILE=" + file})
	if err != nil {
		t.Fatal(err)
	}
	if found.RedisAddress() != "rediss://log.example:6380/2" {
		t.Error(found.RedisAddress())
	}
	secrets := slices.Compact(slices.Sorted(slices.Values(found.Secrets())))
	if !slices.Equal(secrets, []string{"s%40cret", "s@cret"}) {
		t.Error(secrets)
	}
}

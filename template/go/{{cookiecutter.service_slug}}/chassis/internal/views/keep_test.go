package views

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protodelim"

	factfoldv1 "factfold/chassis/factfold/v1"
	"factfold/chassis/internal/redislog"
	"factfold/chassis/internal/wire"
)

// snapshots are the names of the files in the folder that end so.
func (s *stage) snapshots(ending string) []string {
	s.t.Helper()
	found, err := filepath.Glob(filepath.Join(s.folder, "probe.shop-*."+ending))
	if err != nil {
		s.t.Fatal(err)
	}
	return found
}

// saved runs the view to the end of the log, and ends it with a snapshot.
func (s *stage) saved() map[string]string {
	s.t.Helper()
	engine := s.start(s.home())
	s.ready(engine)
	engine.End(s.t.Context())
	engine.stop()
	return shown(s.view, engine.Cut())
}

func (s *stage) cursors(stream string, partition int) map[string]string {
	s.t.Helper()
	key := wire.KeysOf(stream, partition).Cursors("probe.shop")
	found, err := s.client.HGetAll(s.t.Context(), key).Result()
	if err != nil {
		s.t.Fatal(err)
	}
	return found
}

func TestASnapshotEqualsARebuild(t *testing.T) {
	s := newStage(t)
	s.fill(300)
	s.saved()
	s.fill(200)
	restored := s.start(s.home())
	s.ready(restored)
	rebuilt := s.start(nil)
	s.ready(rebuilt)
	if got, want := shown(s.view, restored.Cut()), shown(s.view, rebuilt.Cut()); !maps.Equal(got, want) {
		t.Errorf("%v\nis not\n%v", got, want)
	}
	for i := range 50 {
		for order := range 37 {
			key, request := fmt.Sprint("order-", order), fmt.Sprint("request-", i)
			got := restored.journal.Answered("orders", key, request)
			want := rebuilt.journal.Answered("orders", key, request)
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("%s of %s: %v is not %v", request, key, got, want)
			}
		}
	}
	said := s.said.String()
	for _, line := range []string{
		"view shop begins with a snapshot of 3", // rows
		"view shop is up to date: 200 facts in ",
	} {
		if !strings.Contains(said, line) {
			t.Errorf("it does not say %q", line)
		}
	}
}

func TestASnapshotOfAPartOfTheStreamsKeepsTheOthersRows(t *testing.T) {
	s := newStage(t)
	s.fill(100)
	want := s.saved()
	for partition := range partitions {
		s.client.Del(t.Context(), wire.KeysOf("customers", partition).Head())
	}
	waiting := s.start(s.home())
	s.eventually(func() bool { return waiting.Status() == "view shop waits for stream customers" },
		"waiting: %v", func() any { return waiting.Status() })
	s.put("Placed", "order-1", "", 1, "")
	waiting.Save(t.Context())
	if got := shown(s.view, waiting.Cut()); got["customers/customer-1"] != want["customers/customer-1"] {
		t.Errorf("%v", got)
	}
	if len(s.snapshots("snapshot")) != 2 {
		t.Errorf("%v", s.snapshots("*"))
	}
}

func TestADamagedSnapshotIsSetAsideAndTheOneBeforeIsTaken(t *testing.T) {
	for name, damage := range map[string]struct {
		do   func([]byte) []byte
		want string
	}{
		"a bit": {func(data []byte) []byte { data[100] ^= 1; return data }, "its checksum is wrong"},
		"the beginning": {func(data []byte) []byte { data[0] ^= 1; return data },
			"it does not begin as a snapshot"},
		"the end": {func(data []byte) []byte { return data[:len(data)-40] }, "its checksum is wrong"},
		"all":     {func([]byte) []byte { return nil }, "it does not begin as a snapshot"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			s.fill(50)
			s.saved()
			s.put("Placed", "order-1", "", 1, "")
			want := s.saved()
			newest := s.snapshots("snapshot")[1]
			data, err := os.ReadFile(newest)
			if err == nil {
				err = os.WriteFile(newest, damage.do(data), 0o666)
			}
			if err != nil {
				t.Fatal(err)
			}
			again := s.start(s.home())
			s.ready(again)
			if got := shown(s.view, again.Cut()); !maps.Equal(got, want) {
				t.Errorf("%v", got)
			}
			if found := s.snapshots("damaged"); len(found) != 1 || found[0] != newest+".damaged" {
				t.Errorf("%v", s.snapshots("*"))
			}
			for _, line := range []string{
				fmt.Sprintf("snapshot %s is damaged (%s): set aside as *.damaged", newest, damage.want),
				"view shop is up to date: 1 facts in ",
			} {
				if !strings.Contains(s.said.String(), line) {
					t.Errorf("it does not say %q", line)
				}
			}
		})
	}
}

func TestEveryCutAndEveryBitIsNoticed(t *testing.T) {
	listen(t)
	s := newShop(t)
	f := newFiles(t.TempDir(), "s", s.view, []byte("f"))
	rows := &tree[[]byte]{}
	rows.set("k", nil)
	if err := f.write(t.Context(), &snapshot{rows: map[*Table]*tree[[]byte]{s.orders: rows}}); err != nil {
		t.Fatal(err)
	}
	path := f.all("")[0]
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var bad [][]byte
	for at := range good {
		bad = append(bad, good[:at])
		for bit := range 8 {
			changed := slices.Clone(good)
			changed[at] ^= 1 << bit
			bad = append(bad, changed)
		}
	}
	for _, data := range bad {
		if err := os.WriteFile(path, data, 0o666); err != nil {
			t.Fatal(err)
		}
		if found, err := f.load(t.Context()); found != nil || err != nil || len(f.all("")) != 0 {
			t.Fatalf("%q is taken: %v, %v", data, found, err)
		}
	}
}

func TestASnapshotThatIsWrongInItselfDoesNoHarm(t *testing.T) {
	s := newShop(t)
	part := func(rows *factfoldv1.SnapshotRows, requests *factfoldv1.SnapshotRequests) []byte {
		made := &factfoldv1.SnapshotPart{}
		if rows != nil {
			made.Part = &factfoldv1.SnapshotPart_Rows{Rows: rows}
		}
		if requests != nil {
			made.Part = &factfoldv1.SnapshotPart_Requests{Requests: requests}
		}
		var data bytes.Buffer
		if _, err := protodelim.MarshalTo(&data, made); err != nil {
			t.Fatal(err)
		}
		return data.Bytes()
	}
	for name, each := range map[string]struct {
		part []byte
		want string
	}{
		"cut":            {[]byte("\x05\xff\xff"), "a part is missing"},
		"huge":           {[]byte("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), ""},
		"large":          {[]byte("\x7f\x00"), ""},
		"half a length":  {[]byte("\x80"), "a part is missing"},
		"another table":  {part(&factfoldv1.SnapshotRows{Table: "other"}, nil), "it has a part that nobody knows"},
		"no rows":        {part(&factfoldv1.SnapshotRows{Table: "orders", Keys: []string{"k"}}, nil), "it has keys without rows"},
		"no row":         {part(&factfoldv1.SnapshotRows{Table: "orders", Keys: []string{"k"}, Rows: [][]byte{{255}}}, nil), "a row of table orders: "},
		"no counts":      {part(nil, &factfoldv1.SnapshotRequests{Keys: []string{"k"}}), "it has request ids without facts"},
		"too many":       {part(nil, &factfoldv1.SnapshotRequests{Keys: []string{"k"}, Counts: []uint32{1 << 31}}), "it has request ids without facts"},
		"no facts":       {part(nil, &factfoldv1.SnapshotRequests{RequestIds: []string{"r"}}), "it has request ids without facts"},
		"nothing":        {part(nil, nil), "it has a part that nobody knows"},
		"nothing at all": {[]byte{0}, "it has a part that nobody knows"},
	} {
		t.Run(name, func(t *testing.T) {
			listening := listen(t)
			f := newFiles(t.TempDir(), "s", s.view, nil)
			if err := f.write(t.Context(), &snapshot{}); err != nil {
				t.Fatal(err)
			}
			path := f.all("")[0]
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			data = append(data[:len(data)-sha256.Size], each.part...)
			sum := sha256.Sum256(data)
			if err := os.WriteFile(path, append(data, sum[:]...), 0o666); err != nil {
				t.Fatal(err)
			}
			if found, err := f.load(t.Context()); found != nil || err != nil {
				t.Errorf("%v, %v", found, err)
			}
			want := "snapshot " + path + " is damaged (" + each.want
			if !strings.Contains(listening.String(), want) || len(f.all(`\.damaged`)) != 1 {
				t.Errorf("%s", listening)
			}
		})
	}
}

func TestALogThatWasRolledBackMeanwhileIsReadAgain(t *testing.T) {
	for name, then := range map[string]int{"a fact is missing": 0, "another one is there": 5, "it has grown past it": 20} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			var last []wire.Position
			for range 10 {
				last = append(last, s.put("Placed", "order-1", "lost", 1, ""))
			}
			s.saved()
			at := placeKey{last[9].Stream, last[9].Partition}
			keys := wire.KeysOf(at.stream, at.partition)
			for _, lost := range last[5:] {
				s.client.XDel(t.Context(), keys.Log(), lost.ID.String())
			}
			s.client.HSet(t.Context(), keys.Head(), "n", 5)
			// As a failover does it: the last id that was given out is older, too.
			s.client.Do(t.Context(), "XSETID", keys.Log(), last[4].ID.String())
			s.last[at] = last[4].ID
			time.Sleep(2 * time.Millisecond) // the same milliseconds would be the same facts
			for range then {
				s.put("Placed", "order-1", "new", 10, "")
			}
			engine := s.start(s.home())
			s.ready(engine)
			want := fmt.Sprintf("lost %d", 5+10*then)
			s.eventually(func() bool { return shown(s.view, engine.Cut())["orders/order-1"] == want },
				"%v", func() any { return shown(s.view, engine.Cut()) })
			s.eventually(func() bool { return len(s.snapshots("outdated")) == 1 }, "set aside: %v",
				func() any { return s.snapshots("*") })
			if !strings.Contains(s.said.String(), "the log changed: stream orders, partition ") {
				t.Error("nothing is said")
			}
		})
	}
}

func TestASnapshotThatDoesNotFitIsPassedOver(t *testing.T) {
	for name, each := range map[string]struct {
		change func(*files)
		want   string
	}{
		"of other code": {func(f *files) { f.kind.fingerprint = []byte("other") },
			"view shop has changed since its snapshot: rebuilding"},
		"of another view": {func(f *files) { f.kind.view = "other" },
			"view shop has changed since its snapshot: rebuilding"},
		"of another service": {func(f *files) { f.kind.service = "other" },
			"view shop cannot use its snapshot: rebuilding"},
	} {
		t.Run(name, func(t *testing.T) {
			listening := listen(t)
			s := newShop(t)
			fitting := newFiles(t.TempDir(), "probe", s.view, []byte("mine"))
			other := *fitting
			each.change(&other)
			if err := other.write(t.Context(), &snapshot{}); err != nil {
				t.Fatal(err)
			}
			found, err := fitting.load(t.Context())
			if found != nil || err != nil || !strings.Contains(listening.String(), each.want) {
				t.Errorf("%v, %v", found, err)
			}
			if left := fitting.all(""); len(left) != 1 {
				t.Errorf("%v", left)
			}
		})
	}
}

func TestAChangeOfWhatAViewIsMadeOfChangesItsFingerprint(t *testing.T) {
	hash := func(change func(*shop), journal bool) string {
		s := newShop(t)
		change(s)
		found, err := fingerprint(s.view, s.folds, []string{"orders"}, s.contract, journal)
		if err != nil {
			t.Fatal(err)
		}
		return string(found)
	}
	same := func(*shop) {}
	mine := hash(same, true)
	if mine != hash(same, true) {
		t.Error("it is not always the same")
	}
	for name, other := range map[string]string{
		"no journal":     hash(same, false),
		"a fold less":    hash(func(s *shop) { s.folds = s.folds[1:] }, true),
		"another order":  hash(func(s *shop) { s.folds[0], s.folds[1] = s.folds[1], s.folds[0] }, true),
		"a table more":   hash(func(s *shop) { NewTable(s.view, "more", s.types["Order"]) }, true),
		"more of a part": hash(func(s *shop) { s.contract.Streams["orders"].Partitions++ }, true),
	} {
		if other == mine {
			t.Errorf("%s: it is the same", name)
		}
	}
}

func TestTwoSnapshotsAreKept(t *testing.T) {
	s := newStage(t)
	engine := s.start(s.home())
	s.ready(engine)
	engine.Save(t.Context())
	if found := s.snapshots("snapshot"); len(found) != 0 {
		t.Errorf("nothing was folded, and there is %v", found)
	}
	var names []string
	for i := range 4 {
		s.reach(engine, s.put("Placed", "order-1", "", int64(i), ""))
		engine.Save(t.Context())
		names = s.snapshots("snapshot")
	}
	if len(names) != 2 {
		t.Fatalf("%v", names)
	}
	// Nothing comes any more: the last one is written once again, and then none.
	for range 3 {
		engine.Save(t.Context())
	}
	now := s.snapshots("snapshot")
	if len(now) != 2 || now[0] != names[1] || now[1] == names[1] {
		t.Errorf("%v, then %v", names, now)
	}
	engine.End(t.Context())
	if left := s.snapshots("*"); len(left) != 2 {
		t.Errorf("%v", left)
	}
}

func TestSnapshotsOfALogThatIsGoneAreSetAside(t *testing.T) {
	s := newStage(t)
	s.fill(50)
	s.saved()
	if why := s.start(s.home()).Expects("orders"); !strings.HasSuffix(why, ".snapshot is a snapshot of it") {
		t.Errorf("%q", why)
	}
	if err := s.server.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.create("orders")
	s.create("customers")
	again := s.start(s.home())
	s.ready(again)
	if rows := shown(s.view, again.Cut()); len(rows) != 0 {
		t.Errorf("%v", rows)
	}
	s.eventually(func() bool { return len(s.snapshots("outdated")) == 1 }, "set aside: %v",
		func() any { return s.snapshots("*") })
	if why := again.Expects("orders"); !strings.HasSuffix(why, ".snapshot.outdated is a snapshot of it") {
		t.Errorf("%q", why)
	}
	if why := again.Expects("payments"); why != "" {
		t.Errorf("%q", why)
	}
	if !strings.Contains(s.said.String(), "now it is") {
		t.Error("nothing is said")
	}
}

func TestWhatASnapshotCouldNotFoldIsSaid(t *testing.T) {
	s := newStage(t)
	s.put("Placed", "order-1", "", 666, "")
	s.put("Placed", "order-1", "", 1, "")
	s.saved()
	s.ready(s.start(s.home()))
	want := fmt.Sprintf("view shop: 1 facts before its snapshot could not be folded: to try them again, "+
		"remove its files in %s and restart", s.folder)
	if !strings.Contains(s.said.String(), want) {
		t.Errorf("it does not say %q", want)
	}
}

func TestCursorsSayWhereAViewIs(t *testing.T) {
	s := newStage(t)
	position := s.put("Placed", "order-1", "", 1, "")
	home := s.home()
	engine := s.start(home)
	s.ready(engine)
	value := func() string { return s.cursors(position.Stream, position.Partition)[home.instance] }
	// Before the first fact, then soon after.
	s.eventually(func() bool {
		return strings.HasPrefix(value(), "0-0 ") && strings.HasSuffix(value(), " "+position.ID.String())
	}, "%v", func() any { return value() })
	if s.cursors("customers", 1)["_"] != "1" || len(s.cursors("customers", 1)) != 2 {
		t.Errorf("%v", s.cursors("customers", 1))
	}
	engine.Save(t.Context())
	if !strings.HasPrefix(value(), "0-0 ") {
		t.Errorf("one snapshot is not two: %s", value())
	}
	engine.Save(t.Context())
	if !strings.HasPrefix(value(), position.ID.String()+" ") {
		t.Errorf("%s", value())
	}
	engine.End(t.Context())
	engine.stop()
	if value() == "" {
		t.Error("an instance that comes back has left")
	}
	if again := s.home(); again.instance != home.instance {
		t.Errorf("%s has become %s", home.instance, again.instance)
	}
}

func TestAnInstanceThatDoesNotComeBackTakesItsCursorsAway(t *testing.T) {
	s := newStage(t)
	home := NewHome("probe", "", true, func(text string) { t.Error(text) })
	engine := s.start(home)
	s.ready(engine)
	s.eventually(func() bool { return s.cursors("orders", 0)[home.instance] != "" }, "%v",
		func() any { return s.cursors("orders", 0) })
	engine.End(t.Context())
	if left := s.cursors("orders", 0); left[home.instance] != "" || left["_"] != "1" {
		t.Errorf("%v", left)
	}
}

func TestAProcessBesideTheFirstOneWritesNoSnapshots(t *testing.T) {
	s := newStage(t)
	position := s.put("Placed", "order-1", "", 1, "")
	s.saved()
	beside := NewHome("probe", s.folder, false, func(text string) { t.Error(text) })
	engine := s.start(beside)
	s.ready(engine)
	engine.Save(t.Context())
	if names := s.snapshots("*"); len(names) != 1 {
		t.Errorf("%v", names)
	}
	value := s.cursors(position.Stream, position.Partition)[beside.instance]
	if !strings.HasPrefix(value, position.ID.String()+" ") {
		t.Errorf("it begins where it is: %q", value)
	}
}

func TestWhoMayNotWriteCursorsIsServedAllTheSame(t *testing.T) {
	s := newStage(t)
	s.put("Placed", "order-1", "", 1, "")
	if err := s.client.Do(t.Context(),
		"ACL", "SETUSER", "reader", "on", ">secret", "~*", "+@all", "-hset").Err(); err != nil {
		t.Fatal(err)
	}
	url, err := redislog.ParseURL(strings.Replace(s.server.URL(), "//", "//reader:secret@", 1))
	if err != nil {
		t.Fatal(err)
	}
	s.redis = redislog.New(url)
	engine := s.start(s.home())
	s.ready(engine)
	engine.Save(t.Context())
	engine.End(t.Context())
	if rows := shown(s.view, engine.Cut()); rows["orders/order-1"] != " 1" {
		t.Errorf("%v", rows)
	}
	if strings.Count(s.said.String(), "the cursors of view shop were not written: ") != 1 {
		t.Error("it is said once")
	}
}

func TestALogThatComesBackAsItWasKeepsItsSnapshots(t *testing.T) {
	s := newStage(t)
	s.fill(50)
	want := s.saved()
	engine := s.start(s.home())
	s.ready(engine)
	backup := map[string]string{}
	for _, key := range s.client.Keys(t.Context(), "*").Val() {
		backup[key] = s.client.Dump(t.Context(), key).Val()
	}
	if err := s.server.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.eventually(func() bool { return !engine.Ready() }, "gone: %v", func() any { return engine.Status() })
	restore := s.client.TxPipeline() // a head without its facts would be a log that lacks them
	for key, value := range backup {
		restore.Restore(t.Context(), key, 0, value)
	}
	if _, err := restore.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.ready(engine)
	if got := shown(s.view, engine.Cut()); !maps.Equal(got, want) {
		t.Errorf("%v", got)
	}
	if aside := s.snapshots("outdated"); len(aside) != 0 {
		t.Errorf("%v", aside)
	}
}

func TestAFolderThatCannotBeHadIsAnAlarm(t *testing.T) {
	s := newStage(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	var alarms []string
	home := NewHome("probe", filepath.Join(file, "under"), true,
		func(text string) { alarms = append(alarms, text) })
	s.put("Placed", "order-1", "", 1, "")
	engine := s.start(home)
	s.ready(engine)
	engine.Save(t.Context())
	if len(alarms) != 2 || !strings.HasPrefix(alarms[0], "no snapshots can be kept: ") ||
		!strings.HasSuffix(alarms[0], "; mend FACTFOLD_SNAPSHOT_DIR") ||
		!strings.HasPrefix(alarms[1], "no snapshot of view shop written: ") {
		t.Errorf("%v", alarms)
	}
}

func TestASnapshotThatIsCutOffLeavesNothing(t *testing.T) {
	s := newShop(t)
	f := newFiles(t.TempDir(), "probe", s.view, nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := f.write(ctx, &snapshot{}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if left, _ := os.ReadDir(f.folder); len(left) != 0 {
		t.Errorf("%v", left)
	}
	old := filepath.Join(f.folder, f.stem+"-00000000000000000001.partial")
	if err := os.WriteFile(old, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	long := time.Now().Add(-2 * abandoned)
	if err := os.Chtimes(old, long, long); err != nil {
		t.Fatal(err)
	}
	if _, err := f.tidy(t.Context()); err != nil {
		t.Error(err)
	}
	if left, _ := os.ReadDir(f.folder); len(left) != 0 {
		t.Errorf("%v", left)
	}
}

func TestRowsAndRequestsComeBackAsTheyWere(t *testing.T) {
	s := newShop(t)
	f := newFiles(t.TempDir(), "probe service/ä", s.view, []byte("mine"))
	rows := &tree[[]byte]{}
	for i := range 2500 {
		rows.set(fmt.Sprint("key-", i), make([]byte, 0, 1)) // rows may be empty
	}
	many := &tree[answers]{}
	for i := range 3000 {
		many.set(fmt.Sprint("key-", i), answers{{"r", wire.ID{Ms: 1, N: 2}}, {"s", wire.ID{Ms: 3, N: uint64(i)}}})
	}
	written := &snapshot{
		positions: positions{{"orders", 1}: {"epoch", anchorOf(5, 6)}},
		rows:      map[*Table]*tree[[]byte]{s.orders: rows},
		requests:  requests{"orders": many},
		failures:  7,
	}
	for range 2 {
		if err := f.write(t.Context(), written); err != nil {
			t.Fatal(err)
		}
	}
	read, err := f.load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if read.rows[s.orders].size != 2500 || read.rows[s.customers].size != 0 || read.failures != 7 {
		t.Errorf("%d rows, %d failures", read.rows[s.orders].size, read.failures)
	}
	if row, found := read.rows[s.orders].get("key-2499"); !found || row == nil {
		t.Error("an empty row is not none")
	}
	known, _ := read.requests["orders"].get("key-2999")
	if fmt.Sprint(known) != "[{r {1 2}} {s {3 2999}}]" {
		t.Errorf("%v", known)
	}
	if again, err := f.tidy(t.Context()); err != nil || !again.same(written.positions) {
		t.Errorf("%v, %v", again, err)
	}
	if name := filepath.Base(f.all("")[0]); !strings.HasPrefix(name, "probe%20service%2F%C3%A4.shop-01") {
		t.Error(name)
	}
}

func anchorOf(ms, n uint64) redislog.Anchor {
	return redislog.Anchor{ID: wire.ID{Ms: ms, N: n}, FactID: "0123456789abcdef"}
}

package chassistest

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"factfold/chassis"
	"factfold/chassis/internal/contract"
	"factfold/chassis/internal/wire"
)

// golden is one entry, and what `factfold contract release` wrote down beside it.
type golden struct {
	Entry struct{ Type, Key, Meta, Data string } // meta and data in hex
	Meta  map[string]any                         // protobuf's JSON form, with the contract's names
	Event map[string]any
}

// GoldenFacts checks that the service reads all that the repository in root has released as it was
// written: such facts stay in the log for ever. Each is a test of its own.
func GoldenFacts(t *testing.T, service chassis.Service, root string) {
	t.Helper()
	declared, err := contract.New(service.Contract, service.Subscriptions)
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(root, "released", "*", "facts", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Skip("no version of the contract is released")
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var facts []golden
		if err := json.Unmarshal(text, &facts); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		version := filepath.Base(filepath.Dir(filepath.Dir(file)))
		event := strings.TrimSuffix(filepath.Base(file), ".json")
		for i, fact := range facts {
			t.Run(fmt.Sprintf("%s %s %d", version, event, i+1), func(t *testing.T) {
				for _, difference := range fact.differences(declared) {
					t.Error(difference)
				}
			})
		}
	}
}

// differences is what is read in the entry and is not what is written down.
func (g golden) differences(declared *contract.Contract) []string {
	name := g.Entry.Type
	spec, ok := declared.Events[name]
	if !ok {
		return []string{name + " is no event of the contract any more"}
	}
	fact, err := g.fact(spec.Stream.Name)
	if err != nil {
		return []string{err.Error()}
	}
	event := spec.New()
	if err := fact.Read(event); err != nil {
		return []string{fmt.Sprintf("%s cannot be read any more: %v", name, err)}
	}
	meta, err := fact.Meta()
	if err != nil {
		return []string{fmt.Sprintf("the metadata cannot be read any more: %v", err)}
	}
	found := append(unlike(g.Meta, shown(meta), "meta"), unlike(g.Event, shown(event), name)...)
	if key := spec.KeyOf(event); len(found) == 0 && key != fact.Key() {
		found = append(found, fmt.Sprintf("%s: the key was %q, is read as %q", name, fact.Key(), key))
	}
	return found
}

func (g golden) fact(stream string) (chassis.Fact, error) {
	meta, err := hex.DecodeString(g.Entry.Meta)
	if err != nil {
		return chassis.Fact{}, err
	}
	data, err := hex.DecodeString(g.Entry.Data)
	if err != nil {
		return chassis.Fact{}, err
	}
	return chassis.Fact{
		Stream: stream,
		Epoch:  strings.Repeat("0", 16),
		Entry: wire.Entry{
			ID: wire.ID{Ms: 1, N: 1},
			Fields: []string{
				"type", g.Entry.Type, "key", g.Entry.Key, "meta", string(meta), "data", string(data),
			},
		},
	}, nil
}

// shown is a message in protobuf's JSON form.
func shown(message proto.Message) map[string]any {
	var found map[string]any
	text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(message)
	if err == nil {
		err = json.Unmarshal(text, &found)
	}
	if err != nil {
		return map[string]any{"error": err.Error()}
	}
	return found
}

func unlike(written, read any, where string) []string {
	was, ok := written.(map[string]any)
	is, too := read.(map[string]any)
	if !ok || !too {
		before, _ := json.Marshal(written) // it came from JSON
		now, _ := json.Marshal(read)
		if string(before) == string(now) {
			return nil
		}
		return []string{fmt.Sprintf("%s was %s, is read as %s", where, before, now)}
	}
	names := maps.Clone(was)
	maps.Copy(names, is)
	var found []string
	for _, name := range slices.Sorted(maps.Keys(names)) {
		found = append(found, unlike(was[name], is[name], where+"."+name)...)
	}
	return found
}

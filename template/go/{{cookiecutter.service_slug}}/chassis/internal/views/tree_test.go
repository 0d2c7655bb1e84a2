package views

import (
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
)

func TestATreeIsAMapInTheOrderOfItsKeys(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var present tree[int]
	want := map[string]int{}
	type moment struct {
		tree tree[int]
		want map[string]int
	}
	var moments []moment
	for i := range 30_000 {
		key := strconv.Itoa(random.IntN(4000))
		if i%3 == 0 {
			key = "order-of-somebody-" + key // with a common beginning
		}
		if random.IntN(5) == 0 || i > 20_000 && random.IntN(3) > 0 {
			present.delete(key)
			delete(want, key)
		} else {
			present.set(key, i)
			want[key] = i
		}
		if i%1000 == 0 {
			moments = append(moments, moment{present.freeze(), maps.Clone(want)})
		}
	}
	for _, each := range append(moments, moment{present, want}) {
		if got := maps.Collect(each.tree.all("")); !maps.Equal(got, each.want) || each.tree.size != len(got) {
			t.Fatalf("%d keys, of %d", len(got), len(each.want))
		}
		sorted := slices.Sorted(maps.Keys(each.want))
		for at, after := range sorted {
			if value, ok := each.tree.get(after); !ok || value != each.want[after] {
				t.Fatalf("%q is %d", after, value)
			}
			for key := range each.tree.all(after) {
				if at+1 == len(sorted) || key != sorted[at+1] {
					t.Fatalf("behind %q comes %q", after, key)
				}
				break
			}
		}
		if _, ok := each.tree.get("none"); ok {
			t.Fatal("a key that is not there is found")
		}
	}
}

func TestATreeCanBeEmptiedAndFilledAgain(t *testing.T) {
	var present tree[int]
	for round := range 3 {
		for i := range 1000 {
			present.set(strconv.Itoa(i), round)
		}
		full := present.freeze()
		for i := range 1000 {
			present.delete(strconv.Itoa(i))
		}
		for key := range present.all("") {
			t.Fatalf("%q is left", key)
		}
		if present.size != 0 || full.size != 1000 {
			t.Fatal(present.size, full.size)
		}
	}
}

func TestKeysThatComeInOrderFillTheirNodes(t *testing.T) {
	var present tree[int]
	for i := range 64 * 64 {
		present.set(strconv.Itoa(100_000+i), i)
	}
	if len(present.root.kids) != 64 {
		t.Errorf("%d nodes", len(present.root.kids))
	}
}

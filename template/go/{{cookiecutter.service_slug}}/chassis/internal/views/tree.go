package views

import (
	"encoding/binary"
	"iter"
	"slices"
	"strings"
)

// tree is a map in the order of its keys that can be kept as it is at no cost: freeze returns what
// it holds now, and what comes later copies the nodes that it changes, and the way to them. So a
// query reads one moment of a view without a lock while folds run, a snapshot is written while they
// run, and pages need no sorting.
//
// It is a B-tree with the values in its leaves. Nodes that become empty are dropped, others are not
// merged: rows that go make room for the next ones beside them.
type tree[V any] struct {
	root *node[V]
	size int
	era  *era // of the nodes that may be changed in place
}

// era is what the nodes between two calls of freeze have in common: only its address counts.
type era struct{ _ byte }

type node[V any] struct {
	era    *era
	keys   []treeKey  // in a branch, of each child the smallest key that it may have
	values []V        // of a leaf
	kids   []*node[V] // of a branch
}

const nodeSize = 64 // keys of a node

// treeKey has the first bytes of its key beside it: most comparisons look no further, and so stay
// within the node.
type treeKey struct {
	prefix uint64
	text   string
}

func treeKeyOf(key string) treeKey {
	var first [8]byte
	copy(first[:], key)
	return treeKey{binary.BigEndian.Uint64(first[:]), key}
}

func (k treeKey) compare(other treeKey) int {
	if k.prefix != other.prefix {
		if k.prefix < other.prefix {
			return -1
		}
		return 1
	}
	return strings.Compare(k.text, other.text)
}

// find is the place of key, or where it would be put.
func (n *node[V]) find(key treeKey) (int, bool) {
	low, high := 0, len(n.keys)
	for low < high {
		middle := int(uint(low+high) >> 1)
		switch c := n.keys[middle].compare(key); {
		case c < 0:
			low = middle + 1
		case c > 0:
			high = middle
		default:
			return middle, true
		}
	}
	return low, false
}

// insert puts a key into a leaf that has room.
func (n *node[V]) insert(at int, key treeKey, value V) {
	n.keys = slices.Insert(n.keys, at, key)
	n.values = slices.Insert(n.values, at, value)
}

// kid is the place of the child that key belongs to.
func (n *node[V]) kid(key treeKey) int {
	at, found := n.find(key)
	if found || at == 0 {
		return at
	}
	return at - 1
}

func (t *tree[V]) get(key string) (value V, found bool) {
	at := t.seek(key)
	return at.value(), at.found
}

// spot is where a key is, or would be put, as long as the tree is not changed.
type spot[V any] struct {
	key   treeKey
	leaf  *node[V]
	at    int
	found bool
}

func (s spot[V]) value() (value V) {
	if s.found {
		value = s.leaf.values[s.at]
	}
	return value
}

func (t *tree[V]) seek(key string) spot[V] {
	s := spot[V]{key: treeKeyOf(key), leaf: t.root}
	if s.leaf == nil {
		return s
	}
	for s.leaf.kids != nil {
		s.leaf = s.leaf.kids[s.leaf.kid(s.key)]
	}
	s.at, s.found = s.leaf.find(s.key)
	return s
}

// freeze returns what the tree holds now; nobody may change that.
func (t *tree[V]) freeze() tree[V] {
	frozen := *t
	t.era = nil
	return frozen
}

func (t *tree[V]) set(key string, value V) { t.setAt(t.seek(key), value) }

// setAt is set for what seek has found. A key that comes in is copied: it may be a part of a text
// that is much longer.
func (t *tree[V]) setAt(s spot[V], value V) {
	// A leaf of this era is reached through nodes of this era.
	mine := t.era != nil && s.leaf != nil && s.leaf.era == t.era
	if mine && s.found {
		s.leaf.values[s.at] = value
		return
	}
	if !s.found {
		s.key.text = strings.Clone(s.key.text)
	}
	if mine && len(s.leaf.keys) < nodeSize {
		s.leaf.insert(s.at, s.key, value)
		t.size++
		return
	}
	if t.era == nil {
		t.era = new(era)
	}
	if t.root == nil {
		t.root = t.leaf()
	}
	t.root = t.own(t.root)
	if right := t.put(t.root, s.key, value); right != nil {
		left := t.root
		t.root = &node[V]{
			era:  t.era,
			keys: append(make([]treeKey, 0, nodeSize), left.keys[0], right.keys[0]),
			kids: append(make([]*node[V], 0, nodeSize), left, right),
		}
	}
}

func (t *tree[V]) delete(key string) {
	if _, found := t.get(key); !found {
		return
	}
	if t.era == nil {
		t.era = new(era)
	}
	t.root = t.own(t.root)
	if t.remove(t.root, treeKeyOf(key)) {
		t.root = nil
	}
	t.size--
}

func (t *tree[V]) leaf() *node[V] {
	return &node[V]{
		era: t.era, keys: make([]treeKey, 0, nodeSize), values: make([]V, 0, nodeSize),
	}
}

// own returns n, or a copy of it that may be changed.
func (t *tree[V]) own(n *node[V]) *node[V] {
	if n.era == t.era {
		return n
	}
	own := &node[V]{era: t.era, keys: append(make([]treeKey, 0, nodeSize), n.keys...)}
	if n.kids == nil {
		own.values = append(make([]V, 0, nodeSize), n.values...)
	} else {
		own.kids = append(make([]*node[V], 0, nodeSize), n.kids...)
	}
	return own
}

// put sets a value below n, which is owned, and returns what n had no room for.
func (t *tree[V]) put(n *node[V], key treeKey, value V) *node[V] {
	if n.kids == nil {
		at, found := n.find(key)
		if found {
			n.values[at] = value
			return nil
		}
		t.size++
		right, into := t.split(n, &at)
		into.insert(at, key, value)
		return right
	}
	at := n.kid(key)
	if key.compare(n.keys[at]) < 0 {
		n.keys[at] = key
	}
	n.kids[at] = t.own(n.kids[at])
	overflow := t.put(n.kids[at], key, value)
	if overflow == nil {
		return nil
	}
	at++
	right, into := t.split(n, &at)
	into.keys = slices.Insert(into.keys, at, overflow.keys[0])
	into.kids = slices.Insert(into.kids, at, overflow)
	return right
}

// split makes room in n, if it has none, for what comes at this place, and returns the new node,
// and the one that has the place now. Behind the last place nothing is moved: keys that come in
// order fill their nodes.
func (t *tree[V]) split(n *node[V], at *int) (right, into *node[V]) {
	if len(n.keys) < nodeSize {
		return nil, n
	}
	middle := nodeSize / 2
	if *at == nodeSize {
		middle = nodeSize
	}
	right = &node[V]{era: t.era, keys: append(make([]treeKey, 0, nodeSize), n.keys[middle:]...)}
	if n.kids == nil {
		right.values = append(make([]V, 0, nodeSize), n.values[middle:]...)
		clear(n.values[middle:])
		n.values = n.values[:middle]
	} else {
		right.kids = append(make([]*node[V], 0, nodeSize), n.kids[middle:]...)
		clear(n.kids[middle:])
		n.kids = n.kids[:middle]
	}
	clear(n.keys[middle:])
	n.keys = n.keys[:middle]
	if *at < middle {
		return right, n
	}
	*at -= middle
	return right, right
}

// remove takes a key that is there out of n, which is owned, and says whether n is empty then.
func (t *tree[V]) remove(n *node[V], key treeKey) bool {
	if n.kids == nil {
		at, _ := n.find(key)
		n.keys = slices.Delete(n.keys, at, at+1)
		n.values = slices.Delete(n.values, at, at+1)
		return len(n.keys) == 0
	}
	at := n.kid(key)
	n.kids[at] = t.own(n.kids[at])
	if t.remove(n.kids[at], key) {
		n.keys = slices.Delete(n.keys, at, at+1)
		n.kids = slices.Delete(n.kids, at, at+1)
	}
	return len(n.keys) == 0
}

// all are the keys and values in order, of the keys behind `after` if it is not empty. The tree
// must be a frozen one, or not change meanwhile.
func (t *tree[V]) all(after string) iter.Seq2[string, V] {
	return func(yield func(string, V) bool) {
		if t.root != nil {
			t.root.walk(treeKeyOf(after), after != "", yield)
		}
	}
}

func (n *node[V]) walk(after treeKey, behind bool, yield func(string, V) bool) bool {
	at, found := 0, false
	if behind && n.kids != nil {
		at = n.kid(after)
	} else if behind {
		if at, found = n.find(after); found {
			at++
		}
	}
	for ; at < len(n.keys); at++ {
		if n.kids == nil {
			if !yield(n.keys[at].text, n.values[at]) {
				return false
			}
			continue
		}
		if !n.kids[at].walk(after, behind, yield) {
			return false
		}
		behind = false // only the first child has smaller ones
	}
	return true
}

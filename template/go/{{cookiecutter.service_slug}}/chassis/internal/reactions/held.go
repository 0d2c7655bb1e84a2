package reactions

import (
	"maps"
	"slices"
	"strings"
	"sync"
)

// heldBack has the n of the dead letters of each key, ascending. The partition's batches and its
// letters share it.
type heldBack struct {
	mu    sync.Mutex
	of    map[string][]uint64
	count int
	room  chan struct{} // a letter has gone
}

func newHeldBack() *heldBack {
	return &heldBack{of: map[string][]uint64{}, room: make(chan struct{}, 1)}
}

func (h *heldBack) add(key string, n uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.of[key]) == 0 {
		key = strings.Clone(key) // of the text of a whole batch
	}
	h.of[key] = append(h.of[key], n)
	h.count++
}

func (h *heldBack) drop(key string, n uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	rest := slices.DeleteFunc(h.of[key], func(each uint64) bool { return each == n })
	h.count -= len(h.of[key]) - len(rest)
	h.of[key] = rest
	if len(rest) == 0 {
		delete(h.of, key)
	}
	select {
	case h.room <- struct{}{}:
	default:
	}
}

// first is the letter of a key that comes first.
func (h *heldBack) first(key string) (n uint64, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if ns := h.of[key]; len(ns) > 0 {
		return ns[0], true
	}
	return 0, false
}

// keyOf is the key of a letter.
func (h *heldBack) keyOf(n uint64) (key string, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for key, ns := range h.of {
		if _, found := slices.BinarySearch(ns, n); found {
			return key, true
		}
	}
	return "", false
}

func (h *heldBack) keys() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Collect(maps.Keys(h.of))
}

func (h *heldBack) letters() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.count
}

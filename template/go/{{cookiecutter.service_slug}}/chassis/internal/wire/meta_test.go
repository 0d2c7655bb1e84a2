package wire

import (
	"bytes"
	"testing"
)

func TestIDsOfFactsRise(t *testing.T) {
	before := make([]byte, 16)
	for range 1000 {
		id := NewFactID()
		if len(id) != 16 || id[6]>>4 != 7 || bytes.Compare(id, before) <= 0 {
			t.Fatalf("%x comes after %x", id, before)
		}
		before = id
	}
}

package wire

import (
	"strings"
	"testing"
)

func TestKeysThatNoFactMayHave(t *testing.T) {
	for key, allowed := range map[string]bool{
		"a": true, "ä": true, "__": true, strings.Repeat("k", 512): true,
		"": false, "_": false, strings.Repeat("k", 513): false, "\xff": false,
	} {
		if err := CheckKey(key); (err == nil) != allowed {
			t.Errorf("%.20q: %v", key, err)
		}
	}
}

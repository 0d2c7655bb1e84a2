package settings

import (
	"strings"
	"testing"
)

func TestAURLWhoseFilesCannotBeUsedIsRefused(t *testing.T) {
	for _, name := range []string{"FACTFOLD_REDIS_URL", "FACTFOLD_REDIS_READ_URL"} {
		_, err := FromEnvironment([]string{name + "=rediss://h?ssl_ca_certs=/nowhere.crt"})
		if err == nil || !strings.HasPrefix(err.Error(), name+": ssl_ca_certs=/nowhere.crt cannot be read: ") {
			t.Errorf("%v", err)
		}
	}
}

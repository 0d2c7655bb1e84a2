package fault

import (
	"errors"
	"io/fs"
	"strings"
	"syscall"
)

// Reason is why a file or an address cannot be had, as the system words it, without its name.
func Reason(err error) string {
	text := err.Error()
	var path *fs.PathError
	var number syscall.Errno
	if errors.As(err, &number) {
		text = number.Error()
	} else if errors.As(err, &path) {
		text = path.Err.Error()
	}
	return strings.ToUpper(text[:1]) + text[1:]
}

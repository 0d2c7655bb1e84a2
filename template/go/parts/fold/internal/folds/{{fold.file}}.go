package folds

import (
{% if fold.imports.google %}{{fold.imports.google}}
{% endif %}	"factfold/chassis"

{{fold.imports.ours}})

// {{fold.function}} is what the event does to the row, which is nil if there is none.
func {{fold.function}}(
	row *{{fold.row}},
	event *{{fold.event}},
	fact *chassis.Fact,
) *{{fold.row}} {
	panic("{{fold.name}} changes nothing yet: write internal/folds/{{fold.file}}.go")
}

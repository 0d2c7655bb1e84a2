package folds

import (
{% if view_fold.imports.google %}{{view_fold.imports.google}}
{% endif %}	"factfold/chassis"

{{view_fold.imports.ours}})

// {{view_fold.function}} takes over what a row of {{view_fold.view}} has of {{view_fold.event_name}}.
func {{view_fold.function}}(
	row *{{view_fold.row}},
	event *{{view_fold.event}},
	_ *chassis.Fact,
) *{{view_fold.row}} {
	if row == nil {
		row = &{{view_fold.row}}{}
	}
{{view_fold.taken_over}}	return row
}

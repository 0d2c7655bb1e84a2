package reactions

import (
	"context"

	"factfold/chassis"

{{reaction.imports.ours}})

// {{reaction.function}} is what is done about {{reaction.event_name}}{{reaction.whose}}. It may happen again after a crash.
func {{reaction.function}}(
	ctx context.Context,
	event *{{reaction.event}},
	call *chassis.Reacting,
) ([]chassis.Append, error) {
	panic("{{reaction.name}} does nothing yet: write internal/reactions/{{reaction.file}}.go")
}

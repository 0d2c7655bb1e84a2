package reactions

import (
	"context"

	"factfold/chassis"

{{reaction.imports.ours}})

// {{reaction.function}} answers {{reaction.event_name}}{{reaction.whose}} with a fact of our own, once.
func {{reaction.function}}(
	ctx context.Context,
	event *{{reaction.event}},
	call *chassis.Reacting,
) ([]chassis.Append, error) {
	// With a new key, the same one whenever this fact is answered:
	//
	//	answer := &{{reaction.example}}
	//	return []chassis.Append{ {{-'{'-}}Event: answer{{reaction.version}}{{-'}'-}} }, nil
	panic("{{reaction.name}} answers nothing yet: write internal/reactions/{{reaction.file}}.go")
}

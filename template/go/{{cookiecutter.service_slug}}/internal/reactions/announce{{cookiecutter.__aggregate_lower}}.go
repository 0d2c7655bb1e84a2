package reactions

import (
	"context"
	"log/slog"

	"factfold/chassis"

	contract "service/gen/{{cookiecutter.__package_path}}"
)

// Announce{{cookiecutter.__go_aggregate}} tells the world: the place for an e-mail or a webhook. It may happen again
// after a crash.
func Announce{{cookiecutter.__go_aggregate}}(
	ctx context.Context,
	event *contract.{{cookiecutter.__go_aggregate}}Created,
	_ *chassis.Reacting,
) ([]chassis.Append, error) {
	slog.InfoContext(ctx, "announced "+event.GetId())
	return nil, nil
}

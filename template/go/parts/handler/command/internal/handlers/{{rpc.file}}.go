package handlers

import (
	"context"

{% if rpc.imports.google %}{{rpc.imports.google}}{% if rpc.imports.ours %}
{% endif %}{% endif %}{{rpc.imports.ours}})

// {{rpc.method}} is a command: chassis.CommandFrom(ctx) is what it needs.
func (*{{rpc.receiver}}) {{rpc.method}}(
	ctx context.Context,
	request *{{rpc.request}},
) (*{{rpc.response}}, error) {
	panic("{{rpc.name}} has no answer yet: write internal/handlers/{{rpc.file}}.go")
}

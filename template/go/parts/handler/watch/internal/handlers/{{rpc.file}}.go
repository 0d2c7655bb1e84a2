package handlers

import (
	"google.golang.org/grpc"
{{rpc.imports.google}}{% if rpc.imports.ours %}
{{rpc.imports.ours}}{% endif %})

// {{rpc.method}} is a watch: chassis.WatchFrom(stream.Context()) has the changes.
func (*{{rpc.receiver}}) {{rpc.method}}(
	request *{{rpc.request}},
	stream grpc.ServerStreamingServer[{{rpc.response}}],
) error {
	panic("{{rpc.name}} has no answer yet: write internal/handlers/{{rpc.file}}.go")
}

// Package handlers has the RPCs, one a file.
package handlers

import (
	"google.golang.org/grpc"

	conformance "service/gen/factfold/v1"
)

type probe struct {
	conformance.UnsafeProbeServer
}

// Register makes a server answer the calls of the probe.
func Register(server grpc.ServiceRegistrar) {
	conformance.RegisterProbeServer(server, &probe{})
}

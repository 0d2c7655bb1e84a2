// Package handlers has the RPCs, one a file.
package handlers

import (
	"google.golang.org/grpc"

	contract "service/gen/{{cookiecutter.__package_path}}"
)

// service answers the calls of the contract. The compiler names an RPC that has no handler yet.
type service struct {
	contract.Unsafe{{cookiecutter.__go_aggregate}}ServiceServer
}

// Register makes a server answer them.
func Register(server grpc.ServiceRegistrar) {
	contract.Register{{cookiecutter.__go_aggregate}}ServiceServer(server, &service{})
}

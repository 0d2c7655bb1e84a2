// Package app puts the service together: what is not named here is not part of it.
package app

import (
	"google.golang.org/protobuf/reflect/protoreflect"

	"factfold/chassis"

	contract "service/gen/{{cookiecutter.__package_path}}"
	"service/internal/folds"
	"service/internal/handlers"
	"service/internal/interceptors"
	"service/internal/reactions"
	"service/internal/views"
)

// Name is the service's name, and that of its stream.
const Name = "{{cookiecutter.service_slug}}"

// Service is the whole service.
func Service() chassis.Service {
	return chassis.Service{
		Name: Name,
		Contract: []protoreflect.FileDescriptor{
			contract.File_{{cookiecutter.__package_path | replace('/', '_')}}_contract_proto,
		},
		Register: handlers.Register,
		Folds: []chassis.Fold{
			chassis.NewFold(views.{{cookiecutter.__go_plural}}, folds.{{cookiecutter.__go_aggregate}}Created),
			chassis.NewFold(views.{{cookiecutter.__go_plural}}, folds.{{cookiecutter.__go_aggregate}}Renamed),
		},
		Reactions: []chassis.Reaction{
			chassis.NewReaction("announce_{{cookiecutter.__aggregate_snake}}", reactions.Announce{{cookiecutter.__go_aggregate}}),
		},
		Unary:  interceptors.Unary(),
		Stream: interceptors.Stream(),
	}
}

// Package app puts the probe together as its environment says (factfold/v1/conformance.proto).
package app

import (
	"os"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	"factfold/chassis"

	conformance "service/gen/factfold/v1"
	contract "service/gen/probe/v1"
	"service/internal/folds"
	"service/internal/handlers"
	"service/internal/reactions"
	"service/internal/views"
)

// Service is the whole probe.
func Service() chassis.Service {
	service := chassis.Service{
		Name:     name(),
		Contract: []protoreflect.FileDescriptor{conformance.File_factfold_v1_conformance_proto},
		Register: handlers.Register,
		Folds: []chassis.Fold{
			chassis.NewFold(views.Inputs, folds.InputSeen),
			chassis.NewFold(views.Outputs, folds.OutputSeen),
			chassis.NewFold(views.Moves, folds.Moved),
		},
	}
	owns := listed("PROBE_OWNS", "inputs,moves,outputs")
	for _, stream := range []struct {
		name string
		file protoreflect.FileDescriptor
	}{
		{"inputs", contract.File_probe_v1_inputs_proto},
		{"moves", contract.File_probe_v1_moves_proto},
		{"outputs", contract.File_probe_v1_outputs_proto},
	} {
		if slices.Contains(owns, stream.name) {
			service.Contract = append(service.Contract, stream.file)
		} else {
			service.Subscriptions = append(service.Subscriptions, stream.file)
		}
	}
	for _, reaction := range listed("PROBE_REACTIONS", "answer,scatter") {
		switch reaction {
		case "answer":
			service.Reactions = append(service.Reactions, chassis.NewReaction(reaction, reactions.Answer))
		case "scatter":
			service.Reactions = append(service.Reactions, chassis.NewReaction(reaction, reactions.Scatter))
		case "confirm":
			service.Reactions = append(service.Reactions, chassis.NewReaction(reaction, reactions.Confirm))
		}
	}
	return service
}

func name() string {
	if name := os.Getenv("PROBE_NAME"); name != "" {
		return name
	}
	return "probe"
}

// listed is a comma-separated variable; one that is set and empty lists nothing.
func listed(variable, otherwise string) []string {
	text, ok := os.LookupEnv(variable)
	if !ok {
		text = otherwise
	}
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' })
}

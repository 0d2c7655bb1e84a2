package views

import (
	"google.golang.org/protobuf/types/known/wrapperspb"

	"factfold/chassis"

	contract "service/gen/{{cookiecutter.__package_path}}"
)

// {{cookiecutter.__go_plural}}ByName is how many have each name.
var {{cookiecutter.__go_plural}}ByName = chassis.NewAggregate(
	{{cookiecutter.__plural_lower}},
	"{{cookiecutter.__plural_snake}}_by_name",
	{{cookiecutter.__go_plural}},
	func(row *contract.{{cookiecutter.__go_aggregate}}) (string, bool) { return row.GetName(), row.GetName() != "" },
	func(count *wrapperspb.UInt64Value, _ *contract.{{cookiecutter.__go_aggregate}}) { count.Value++ },
	func(count *wrapperspb.UInt64Value, _ *contract.{{cookiecutter.__go_aggregate}}) { count.Value-- },
)

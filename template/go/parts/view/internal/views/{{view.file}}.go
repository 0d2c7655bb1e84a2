package views

import (
	"factfold/chassis"

{{view.imports}})

// A table that is to be joined with another one must be of the same view.
var {{view.view}} = chassis.NewView("{{view.name}}")

// {{view.go_name}} is what the facts of one key come to, by key. It is kept once app.go has a fold into it.
var {{view.go_name}} = chassis.NewTable[*{{view.row}}]({{view.view}}, "{{view.name}}")

// Command service serves until SIGTERM or Ctrl-C.
package main

import (
	"factfold/chassis"

	"service/internal/app"
)

func main() {
	chassis.Main(app.Service())
}

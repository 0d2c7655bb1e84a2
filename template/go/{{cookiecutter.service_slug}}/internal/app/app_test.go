package app_test

import (
	"path/filepath"
	"testing"

	"factfold/chassis/testing/chassistest"

	"service/internal/app"
)

// What was ever released can still be read: its facts stay in the log.
func TestAReleasedFactIsReadAsItWasWritten(t *testing.T) {
	chassistest.GoldenFacts(t, app.Service(), filepath.Join("..", ".."))
}

// Package folds says what each event does to a row of a view, one a file.
package folds

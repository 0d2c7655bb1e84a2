// Package views has the derived state: the tables that folds fill and handlers read.
package views

// Package reactions is what the service does about a fact, one reaction a file.
package reactions

// Package interceptors has what every call passes, the first one outermost: the place for
// authentication.
package interceptors

import "google.golang.org/grpc"

// Unary are those of calls with one answer.
func Unary() []grpc.UnaryServerInterceptor { return nil }

// Stream are those of watches.
func Stream() []grpc.StreamServerInterceptor { return nil }

package server

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"

	"factfold/chassis/internal/fault"
)

// registrar registers services with what goes around each of their calls. gRPC's own interceptors
// would come too late: a request is parsed before them.
type registrar struct {
	server *grpc.Server
	unary  grpc.UnaryServerInterceptor
	stream grpc.StreamServerInterceptor
	// around is what a call runs in.
	around func(ctx context.Context, method string, handle func(context.Context) error) error
}

// GetServiceInfo is for reflection.
func (r registrar) GetServiceInfo() map[string]grpc.ServiceInfo { return r.server.GetServiceInfo() }

// RegisterService is part of grpc.ServiceRegistrar.
func (r registrar) RegisterService(desc *grpc.ServiceDesc, implementation any) {
	wrapped := *desc
	wrapped.Methods = make([]grpc.MethodDesc, len(desc.Methods))
	for i, method := range desc.Methods {
		wrapped.Methods[i] = grpc.MethodDesc{
			MethodName: method.MethodName,
			Handler:    r.unaryHandler("/"+desc.ServiceName+"/"+method.MethodName, method.Handler),
		}
	}
	wrapped.Streams = make([]grpc.StreamDesc, len(desc.Streams))
	for i, stream := range desc.Streams {
		wrapped.Streams[i] = stream
		wrapped.Streams[i].Handler = r.streamHandler("/"+desc.ServiceName+"/"+stream.StreamName, stream)
	}
	r.server.RegisterService(&wrapped, implementation)
}

func (r registrar) unaryHandler(method string, handler grpc.MethodHandler) grpc.MethodHandler {
	return func(server any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		var response any
		err := r.around(ctx, method, func(ctx context.Context) (err error) {
			response, err = handler(server, ctx, func(into any) error { return parse(decode, into) }, r.unary)
			return err
		})
		return response, err
	}
}

func (r registrar) streamHandler(method string, desc grpc.StreamDesc) grpc.StreamHandler {
	info := &grpc.StreamServerInfo{
		FullMethod: method, IsClientStream: desc.ClientStreams, IsServerStream: desc.ServerStreams,
	}
	return func(server any, stream grpc.ServerStream) error {
		return r.around(stream.Context(), method, func(ctx context.Context) error {
			return r.stream(server, &within{stream, ctx}, info, desc.Handler)
		})
	}
}

// within is a stream with a context that has more.
type within struct {
	grpc.ServerStream
	ctx context.Context
}

// Context is part of grpc.ServerStream.
func (w *within) Context() context.Context { return w.ctx }

// RecvMsg is part of grpc.ServerStream.
func (w *within) RecvMsg(into any) error { return parse(w.ServerStream.RecvMsg, into) }

// request is parsed by the codec, which keeps to itself that it does not parse: gRPC would end the
// call with INTERNAL by itself, and the caller is to blame.
type request struct {
	into any
	err  error
}

type codec struct{ encoding.CodecV2 }

// Unmarshal is part of encoding.CodecV2.
func (c codec) Unmarshal(data mem.BufferSlice, into any) error {
	if its, ok := into.(*request); ok {
		its.err = c.CodecV2.Unmarshal(data, its.into)
		return nil
	}
	return c.CodecV2.Unmarshal(data, into)
}

func parse(receive func(any) error, into any) error {
	if _, already := into.(*request); already {
		return receive(into)
	}
	its := &request{into: into}
	if err := receive(its); err != nil {
		return err
	}
	if its.err != nil {
		return fault.InvalidRequest("request", "does not parse: use the service's contract")
	}
	return nil
}

// Within is stream with the context ctx.
func Within(ctx context.Context, stream grpc.ServerStream) grpc.ServerStream {
	return &within{stream, ctx}
}

func chainUnary(interceptors []grpc.UnaryServerInterceptor) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		for i := len(interceptors) - 1; i >= 0; i-- {
			inner, interceptor := handler, interceptors[i]
			handler = func(ctx context.Context, request any) (any, error) {
				return interceptor(ctx, request, info, inner)
			}
		}
		return handler(ctx, request)
	}
}

func chainStream(interceptors []grpc.StreamServerInterceptor) grpc.StreamServerInterceptor {
	return func(server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		for i := len(interceptors) - 1; i >= 0; i-- {
			inner, interceptor := handler, interceptors[i]
			handler = func(server any, stream grpc.ServerStream) error {
				return interceptor(server, stream, info, inner)
			}
		}
		return handler(server, stream)
	}
}

package chassis

import (
	"context"
	"net"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"factfold/chassis/internal/fault"
)

// clientDeadline is that of unary calls outside of any call that is being answered.
const clientDeadline = 10 * time.Second

// Dial makes a channel to another service, whose calls are traced. ctx is that of a call or a
// reaction of this service; a later call through the channel gets what is left of the time of the
// context that it is made with. With FACTFOLD_TLS_… it shows this service's certificate, unless
// options bring other credentials.
func Dial(ctx context.Context, target string, options ...grpc.DialOption) (*grpc.ClientConn, error) {
	c, ok := ctx.Value(coreKey{}).(*core)
	if !ok {
		return nil, fault.Wiring("Dial: this is not the context of a call or a reaction")
	}
	own := insecure.NewCredentials()
	if c.tls != nil {
		own = credentials.NewTLS(c.tls.ForClient())
	}
	host, port := addressOf(target)
	traced := []grpc.DialOption{
		grpc.WithTransportCredentials(own),
		grpc.WithChainUnaryInterceptor(func(
			ctx context.Context, method string, request, reply any, conn *grpc.ClientConn,
			invoke grpc.UnaryInvoker, options ...grpc.CallOption,
		) error {
			if _, limited := ctx.Deadline(); !limited {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, clientDeadline)
				defer cancel()
			}
			ctx, span := c.telemetry.ClientCall(ctx, method, host, port)
			err := invoke(ctx, method, request, reply, conn, options...)
			span.End(status.Code(err), err)
			return err
		}),
		grpc.WithChainStreamInterceptor(func(
			ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string,
			open grpc.Streamer, options ...grpc.CallOption,
		) (grpc.ClientStream, error) {
			ctx, span := c.telemetry.ClientCall(ctx, method, host, port)
			options = append(options, grpc.OnFinish(func(err error) { span.End(status.Code(err), err) }))
			return open(ctx, desc, conn, method, options...)
		}),
	}
	return grpc.NewClient(target, append(traced, options...)...)
}

func addressOf(target string) (string, int) {
	host, port, err := net.SplitHostPort(target[strings.LastIndex(target, "/")+1:])
	if number, notNumber := strconv.Atoi(port); err == nil && notNumber == nil {
		return host, number
	}
	return target, 0
}

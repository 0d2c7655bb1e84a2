package turns

import (
	"context"
	"net"
	"os"
	"os/exec"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// Serving starts a program that listens where FACTFOLD_LISTEN says, and is a channel to it once its
// health says SERVING. It ends with this process.
func Serving(program string, environment ...string) *grpc.ClientConn {
	free := Must(net.Listen("tcp", "127.0.0.1:0"))
	address := free.Addr().String()
	Check(free.Close())
	command := exec.Command(program)
	command.Env = append(append(os.Environ(), environment...), "FACTFOLD_LISTEN="+address)
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	Check(command.Start())
	channel := Must(grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials())))
	health := grpc_health_v1.NewHealthClient(channel)
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		found, err := health.Check(context.Background(), &grpc_health_v1.HealthCheckRequest{}, grpc.WaitForReady(true))
		if err == nil && found.GetStatus() == grpc_health_v1.HealthCheckResponse_SERVING {
			return channel
		}
		if time.Since(began) > time.Minute {
			panic(program + " is not ready")
		}
	}
}

// A bare grpc-go server: answers each call with the same message, of the size of ours.
package main

import (
	"context"
	"net"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"factfold/chassis/bench/turns"
	"service/gen/acme/orders/v1"
)

var order = &ordersv1.Order{
	Id: "7c5e0c3e-1a52-5d4e-9d0e-0d5a4a3c7f10",
	Name: "Eight pallets of tiles, to be unloaded at gate 4 of the terminal in Rotterdam, not before " +
		"seven in the morning; the driver has the papers",
	Version: 1,
}

type orders struct {
	ordersv1.UnimplementedOrderServiceServer
}

func (orders) GetOrder(context.Context, *ordersv1.GetOrderRequest) (*ordersv1.GetOrderResponse, error) {
	return &ordersv1.GetOrderResponse{Item: order}, nil
}

func (orders) CreateOrder(context.Context, *ordersv1.CreateOrderRequest) (*ordersv1.CreateOrderResponse, error) {
	return &ordersv1.CreateOrderResponse{Id: order.GetId(), Version: 1}, nil
}

func main() {
	server := grpc.NewServer()
	ordersv1.RegisterOrderServiceServer(server, orders{})
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	turns.Check(server.Serve(turns.Must(net.Listen("tcp", os.Getenv("FACTFOLD_LISTEN")))))
}

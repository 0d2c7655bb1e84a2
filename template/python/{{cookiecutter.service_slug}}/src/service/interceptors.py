"""Every call passes these, the first one outermost: the place for authentication."""

from grpc.aio import ServerInterceptor

INTERCEPTORS: list[ServerInterceptor] = []

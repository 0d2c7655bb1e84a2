"""The command line of factfold. It contains no service code."""

import os

# gRPC writes a line about each connection that a server ends, as each service does in the end;
# it looks here when it is imported.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

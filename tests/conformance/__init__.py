"""One suite for the services of all languages: through gRPC, Redis and signals alone."""

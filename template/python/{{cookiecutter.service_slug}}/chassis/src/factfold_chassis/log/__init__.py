"""The log in Redis: connections, streams, the append path and the reader (docs/protocol.md)."""

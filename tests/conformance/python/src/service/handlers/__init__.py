"""The RPCs, one a file."""

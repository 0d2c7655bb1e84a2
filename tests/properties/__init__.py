"""Properties: what holds for any sequence of calls, found by Hypothesis.

Each script is compared with a small model of it, written after docs/protocol.md and
docs/wire-format.md alone: its replies, and every byte that it leaves in Redis. `--long` tries many
more examples, `--server` tells which servers (tests/faults/README.md).
"""

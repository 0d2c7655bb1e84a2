"""Fuzzers: what anybody may send or write. 100,000 inputs each with `--long`, else a sample.

Each batch of inputs has dice of its own; a batch that fails is repeated by `--seed`, alone.
"""

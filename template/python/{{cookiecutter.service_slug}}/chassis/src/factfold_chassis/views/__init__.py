"""Derived state: tables folded from streams, and tables derived from those."""

"""Derived state: the tables that folds fill and handlers read."""

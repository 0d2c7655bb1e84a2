"""Faults for real: real servers, real processes, real signals (README.md)."""

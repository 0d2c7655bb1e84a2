"""Pieces of work. A part is a module here with `run(stage)`; its docstring says what it is."""

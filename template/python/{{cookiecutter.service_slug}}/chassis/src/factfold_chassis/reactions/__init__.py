"""Code that answers facts, exactly once in what it appends."""

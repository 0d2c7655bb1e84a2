"""The contenders. Each works for as long as it is told, and says how much it did."""

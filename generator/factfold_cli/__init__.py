"""The command line of factfold. It contains no service code."""

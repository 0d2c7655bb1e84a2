"""Measures factfold beside its peers and the floor; see README.md."""

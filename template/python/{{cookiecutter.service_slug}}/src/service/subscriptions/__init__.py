"""The contracts of other services, written by `factfold add subscription`."""

"""The contract of {{theirs.name}}, another service, under a short name."""

from {{theirs.stubs}} import *

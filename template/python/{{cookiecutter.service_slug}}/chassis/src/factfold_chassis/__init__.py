"""The factfold chassis: a service that shares facts instead of databases."""

from factfold_chassis.calls import (
    Appended,
    Change,
    Command,
    Handler,
    Query,
    Watch,
    command,
    query,
    watch,
)
from factfold_chassis.errors import (
    ChassisError,
    FailedPrecondition,
    InvalidRequest,
    NotFound,
    VersionConflict,
)
from factfold_chassis.facts import Fact, Position
from factfold_chassis.reactions.declare import Append, Outputs, Reacting, Reaction, reaction
from factfold_chassis.service import Service, run
from factfold_chassis.views.declare import Fold, Table, View, fold
from factfold_chassis.views.tables import Page, Rows

__all__ = [
    "Append",
    "Appended",
    "Change",
    "ChassisError",
    "Command",
    "Fact",
    "FailedPrecondition",
    "Fold",
    "Handler",
    "InvalidRequest",
    "NotFound",
    "Outputs",
    "Page",
    "Position",
    "Query",
    "Reacting",
    "Reaction",
    "Rows",
    "Service",
    "Table",
    "VersionConflict",
    "View",
    "Watch",
    "command",
    "fold",
    "query",
    "reaction",
    "run",
    "watch",
]

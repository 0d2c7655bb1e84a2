"""What the bench's service declares: one table that holds the last event of each key."""

import bench_pb2

from factfold_chassis.contract import Contract
from factfold_chassis.facts import Fact
from factfold_chassis.views.declare import View, fold

STREAM = "parcels"
VIEW = View("parcels")
PARCELS = VIEW.table("parcels", bench_pb2.ParcelMoved)

OWN = Contract([bench_pb2.DESCRIPTOR])
FOREIGN = Contract([], [bench_pb2.DESCRIPTOR])


@fold(bench_pb2.ParcelMoved, into=PARCELS)
def parcel_moved(
    row: bench_pb2.ParcelMoved | None, event: bench_pb2.ParcelMoved, fact: Fact
) -> bench_pb2.ParcelMoved | None:
    return event

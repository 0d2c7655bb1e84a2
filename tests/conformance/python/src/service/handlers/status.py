from service import contract

from factfold_chassis import Query, query
from factfold_chassis.telemetry import Telemetry


@query
def status(request: contract.StatusRequest, call: Query) -> contract.StatusResponse:
    return contract.StatusResponse(
        instance=call._core.instance,
        spans_dropped=Telemetry.active().dropped,
    )

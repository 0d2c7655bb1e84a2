"""What a refused call says, as its caller sees it."""

import grpc
from google.rpc import error_details_pb2, status_pb2


def violations(error: grpc.aio.AioRpcError) -> dict[str, str]:
    """The fields that a call with INVALID_ARGUMENT broke, each with the rule in words."""
    found: dict[str, str] = {}
    for key, value in error.trailing_metadata():
        if key == "grpc-status-details-bin":
            for detail in status_pb2.Status.FromString(value).details:
                bad = error_details_pb2.BadRequest()
                if detail.Unpack(bad):
                    found |= {each.field: each.description for each in bad.field_violations}
    return found

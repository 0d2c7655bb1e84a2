"""Who sends traces and metrics."""

import uuid

from opentelemetry.sdk.resources import OTELResourceDetector, Resource


def resource_of(service_name: str, process: int | None) -> Resource:
    """`OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` win over the service's own name.

    One of several processes adds its number to the instance, which they may have from there.
    """
    own = {"service.name": service_name, "service.instance.id": str(uuid.uuid4())}
    resource = Resource.create(own).merge(OTELResourceDetector().detect())
    if process is None:
        return resource
    instance = str(resource.attributes["service.instance.id"])
    return resource.merge(Resource({"service.instance.id": f"{instance}-{process}"}))

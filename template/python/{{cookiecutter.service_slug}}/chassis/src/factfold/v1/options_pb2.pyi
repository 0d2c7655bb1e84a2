from google.protobuf import descriptor_pb2 as _descriptor_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor
STREAM_FIELD_NUMBER: _ClassVar[int]
stream: _descriptor.FieldDescriptor
EVENT_FIELD_NUMBER: _ClassVar[int]
event: _descriptor.FieldDescriptor
KEY_FIELD_NUMBER: _ClassVar[int]
key: _descriptor.FieldDescriptor

class Stream(_message.Message):
    __slots__ = ("name", "partitions", "versioned")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    VERSIONED_FIELD_NUMBER: _ClassVar[int]
    name: str
    partitions: int
    versioned: bool
    def __init__(self, name: _Optional[str] = ..., partitions: _Optional[int] = ..., versioned: _Optional[bool] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

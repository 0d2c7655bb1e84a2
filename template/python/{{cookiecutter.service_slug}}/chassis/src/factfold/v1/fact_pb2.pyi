from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FactMeta(_message.Message):
    __slots__ = ("id", "source", "time_unix_nano", "trace_id", "span_id", "trace_flags", "trace_state", "causation_id", "request_id", "version", "extensions")
    class ExtensionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    TIME_UNIX_NANO_FIELD_NUMBER: _ClassVar[int]
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    SPAN_ID_FIELD_NUMBER: _ClassVar[int]
    TRACE_FLAGS_FIELD_NUMBER: _ClassVar[int]
    TRACE_STATE_FIELD_NUMBER: _ClassVar[int]
    CAUSATION_ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    EXTENSIONS_FIELD_NUMBER: _ClassVar[int]
    id: bytes
    source: str
    time_unix_nano: int
    trace_id: bytes
    span_id: bytes
    trace_flags: int
    trace_state: str
    causation_id: bytes
    request_id: str
    version: int
    extensions: _containers.ScalarMap[str, str]
    def __init__(self, id: _Optional[bytes] = ..., source: _Optional[str] = ..., time_unix_nano: _Optional[int] = ..., trace_id: _Optional[bytes] = ..., span_id: _Optional[bytes] = ..., trace_flags: _Optional[int] = ..., trace_state: _Optional[str] = ..., causation_id: _Optional[bytes] = ..., request_id: _Optional[str] = ..., version: _Optional[int] = ..., extensions: _Optional[_Mapping[str, str]] = ...) -> None: ...

class Outcome(_message.Message):
    __slots__ = ("units", "failure", "hopeless", "held")
    UNITS_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    HOPELESS_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    units: _containers.RepeatedCompositeFieldContainer[Unit]
    failure: str
    hopeless: bool
    held: bool
    def __init__(self, units: _Optional[_Iterable[_Union[Unit, _Mapping]]] = ..., failure: _Optional[str] = ..., hopeless: _Optional[bool] = ..., held: _Optional[bool] = ...) -> None: ...

class Unit(_message.Message):
    __slots__ = ("stream", "partition", "facts")
    STREAM_FIELD_NUMBER: _ClassVar[int]
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    stream: str
    partition: int
    facts: _containers.RepeatedCompositeFieldContainer[NewFact]
    def __init__(self, stream: _Optional[str] = ..., partition: _Optional[int] = ..., facts: _Optional[_Iterable[_Union[NewFact, _Mapping]]] = ...) -> None: ...

class NewFact(_message.Message):
    __slots__ = ("key", "expected_version", "type", "meta", "data")
    KEY_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_VERSION_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    META_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    key: str
    expected_version: int
    type: str
    meta: bytes
    data: bytes
    def __init__(self, key: _Optional[str] = ..., expected_version: _Optional[int] = ..., type: _Optional[str] = ..., meta: _Optional[bytes] = ..., data: _Optional[bytes] = ...) -> None: ...

class DeadLetter(_message.Message):
    __slots__ = ("state", "entry_id", "fields", "attempts", "error", "failed_unix_nano", "outcome", "round", "applied")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[DeadLetter.State]
        HELD: _ClassVar[DeadLetter.State]
        RETRYING: _ClassVar[DeadLetter.State]
        DEAD: _ClassVar[DeadLetter.State]
    STATE_UNSPECIFIED: DeadLetter.State
    HELD: DeadLetter.State
    RETRYING: DeadLetter.State
    DEAD: DeadLetter.State
    STATE_FIELD_NUMBER: _ClassVar[int]
    ENTRY_ID_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    FAILED_UNIX_NANO_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    APPLIED_FIELD_NUMBER: _ClassVar[int]
    state: DeadLetter.State
    entry_id: bytes
    fields: _containers.RepeatedScalarFieldContainer[bytes]
    attempts: int
    error: str
    failed_unix_nano: int
    outcome: Outcome
    round: int
    applied: _containers.RepeatedCompositeFieldContainer[Place]
    def __init__(self, state: _Optional[_Union[DeadLetter.State, str]] = ..., entry_id: _Optional[bytes] = ..., fields: _Optional[_Iterable[bytes]] = ..., attempts: _Optional[int] = ..., error: _Optional[str] = ..., failed_unix_nano: _Optional[int] = ..., outcome: _Optional[_Union[Outcome, _Mapping]] = ..., round: _Optional[int] = ..., applied: _Optional[_Iterable[_Union[Place, _Mapping]]] = ...) -> None: ...

class Place(_message.Message):
    __slots__ = ("stream", "partition")
    STREAM_FIELD_NUMBER: _ClassVar[int]
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    stream: str
    partition: int
    def __init__(self, stream: _Optional[str] = ..., partition: _Optional[int] = ...) -> None: ...

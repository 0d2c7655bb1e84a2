from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SnapshotPart(_message.Message):
    __slots__ = ("header", "rows", "requests")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    header: SnapshotHeader
    rows: SnapshotRows
    requests: SnapshotRequests
    def __init__(self, header: _Optional[_Union[SnapshotHeader, _Mapping]] = ..., rows: _Optional[_Union[SnapshotRows, _Mapping]] = ..., requests: _Optional[_Union[SnapshotRequests, _Mapping]] = ...) -> None: ...

class SnapshotHeader(_message.Message):
    __slots__ = ("format", "service", "view", "language", "fingerprint", "positions", "failures")
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    VIEW_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    POSITIONS_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    format: int
    service: str
    view: str
    language: str
    fingerprint: bytes
    positions: _containers.RepeatedCompositeFieldContainer[SnapshotPosition]
    failures: int
    def __init__(self, format: _Optional[int] = ..., service: _Optional[str] = ..., view: _Optional[str] = ..., language: _Optional[str] = ..., fingerprint: _Optional[bytes] = ..., positions: _Optional[_Iterable[_Union[SnapshotPosition, _Mapping]]] = ..., failures: _Optional[int] = ...) -> None: ...

class SnapshotPosition(_message.Message):
    __slots__ = ("stream", "partition", "epoch", "ms", "n", "fact_id")
    STREAM_FIELD_NUMBER: _ClassVar[int]
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    MS_FIELD_NUMBER: _ClassVar[int]
    N_FIELD_NUMBER: _ClassVar[int]
    FACT_ID_FIELD_NUMBER: _ClassVar[int]
    stream: str
    partition: int
    epoch: str
    ms: int
    n: int
    fact_id: bytes
    def __init__(self, stream: _Optional[str] = ..., partition: _Optional[int] = ..., epoch: _Optional[str] = ..., ms: _Optional[int] = ..., n: _Optional[int] = ..., fact_id: _Optional[bytes] = ...) -> None: ...

class SnapshotRows(_message.Message):
    __slots__ = ("table", "keys", "rows")
    TABLE_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    table: str
    keys: _containers.RepeatedScalarFieldContainer[str]
    rows: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, table: _Optional[str] = ..., keys: _Optional[_Iterable[str]] = ..., rows: _Optional[_Iterable[bytes]] = ...) -> None: ...

class SnapshotRequests(_message.Message):
    __slots__ = ("stream", "keys", "counts", "request_ids", "entry_ids")
    STREAM_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_IDS_FIELD_NUMBER: _ClassVar[int]
    ENTRY_IDS_FIELD_NUMBER: _ClassVar[int]
    stream: str
    keys: _containers.RepeatedScalarFieldContainer[str]
    counts: _containers.RepeatedScalarFieldContainer[int]
    request_ids: _containers.RepeatedScalarFieldContainer[str]
    entry_ids: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, stream: _Optional[str] = ..., keys: _Optional[_Iterable[str]] = ..., counts: _Optional[_Iterable[int]] = ..., request_ids: _Optional[_Iterable[str]] = ..., entry_ids: _Optional[_Iterable[bytes]] = ...) -> None: ...

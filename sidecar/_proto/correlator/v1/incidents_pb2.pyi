import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Severity(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SEVERITY_UNSPECIFIED: _ClassVar[Severity]
    LOW: _ClassVar[Severity]
    MEDIUM: _ClassVar[Severity]
    HIGH: _ClassVar[Severity]
    CRITICAL: _ClassVar[Severity]
SEVERITY_UNSPECIFIED: Severity
LOW: Severity
MEDIUM: Severity
HIGH: Severity
CRITICAL: Severity

class WatchRequest(_message.Message):
    __slots__ = ("at_least", "after")
    AT_LEAST_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    at_least: Severity
    after: str
    def __init__(self, at_least: _Optional[_Union[Severity, str]] = ..., after: _Optional[str] = ...) -> None: ...

class IncidentStep(_message.Message):
    __slots__ = ("key", "incident", "previous", "step", "correlation_rule", "case", "severity", "came_from", "groups", "tags", "place", "first", "last", "count", "incomplete", "timeline", "rules", "triage")
    KEY_FIELD_NUMBER: _ClassVar[int]
    INCIDENT_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    CORRELATION_RULE_FIELD_NUMBER: _ClassVar[int]
    CASE_FIELD_NUMBER: _ClassVar[int]
    SEVERITY_FIELD_NUMBER: _ClassVar[int]
    CAME_FROM_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    PLACE_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    INCOMPLETE_FIELD_NUMBER: _ClassVar[int]
    TIMELINE_FIELD_NUMBER: _ClassVar[int]
    RULES_FIELD_NUMBER: _ClassVar[int]
    TRIAGE_FIELD_NUMBER: _ClassVar[int]
    key: str
    incident: str
    previous: str
    step: int
    correlation_rule: str
    case: str
    severity: Severity
    came_from: Severity
    groups: _containers.RepeatedScalarFieldContainer[str]
    tags: _containers.RepeatedScalarFieldContainer[str]
    place: Place
    first: _timestamp_pb2.Timestamp
    last: _timestamp_pb2.Timestamp
    count: int
    incomplete: bool
    timeline: _containers.RepeatedCompositeFieldContainer[Moment]
    rules: _containers.RepeatedScalarFieldContainer[str]
    triage: _containers.RepeatedCompositeFieldContainer[TriageStep]
    def __init__(self, key: _Optional[str] = ..., incident: _Optional[str] = ..., previous: _Optional[str] = ..., step: _Optional[int] = ..., correlation_rule: _Optional[str] = ..., case: _Optional[str] = ..., severity: _Optional[_Union[Severity, str]] = ..., came_from: _Optional[_Union[Severity, str]] = ..., groups: _Optional[_Iterable[str]] = ..., tags: _Optional[_Iterable[str]] = ..., place: _Optional[_Union[Place, _Mapping]] = ..., first: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., last: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., count: _Optional[int] = ..., incomplete: _Optional[bool] = ..., timeline: _Optional[_Iterable[_Union[Moment, _Mapping]]] = ..., rules: _Optional[_Iterable[str]] = ..., triage: _Optional[_Iterable[_Union[TriageStep, _Mapping]]] = ...) -> None: ...

class Place(_message.Message):
    __slots__ = ("host", "container_id", "container_name", "image", "namespace", "pod")
    HOST_FIELD_NUMBER: _ClassVar[int]
    CONTAINER_ID_FIELD_NUMBER: _ClassVar[int]
    CONTAINER_NAME_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    POD_FIELD_NUMBER: _ClassVar[int]
    host: str
    container_id: str
    container_name: str
    image: str
    namespace: str
    pod: str
    def __init__(self, host: _Optional[str] = ..., container_id: _Optional[str] = ..., container_name: _Optional[str] = ..., image: _Optional[str] = ..., namespace: _Optional[str] = ..., pod: _Optional[str] = ...) -> None: ...

class Moment(_message.Message):
    __slots__ = ("time", "groups", "rules", "join", "path", "command", "detail")
    TIME_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    RULES_FIELD_NUMBER: _ClassVar[int]
    JOIN_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    time: _timestamp_pb2.Timestamp
    groups: _containers.RepeatedScalarFieldContainer[str]
    rules: _containers.RepeatedScalarFieldContainer[str]
    join: str
    path: _containers.RepeatedCompositeFieldContainer[Process]
    command: str
    detail: str
    def __init__(self, time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., groups: _Optional[_Iterable[str]] = ..., rules: _Optional[_Iterable[str]] = ..., join: _Optional[str] = ..., path: _Optional[_Iterable[_Union[Process, _Mapping]]] = ..., command: _Optional[str] = ..., detail: _Optional[str] = ...) -> None: ...

class Process(_message.Message):
    __slots__ = ("pid", "name")
    PID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    pid: int
    name: str
    def __init__(self, pid: _Optional[int] = ..., name: _Optional[str] = ...) -> None: ...

class TriageStep(_message.Message):
    __slots__ = ("do", "command")
    DO_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    do: str
    command: str
    def __init__(self, do: _Optional[str] = ..., command: _Optional[str] = ...) -> None: ...

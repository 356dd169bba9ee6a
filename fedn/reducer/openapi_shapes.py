"""What every route takes and answers, in few words; `openapi` makes the document of it.

A form is a Python type (a dataclass becomes a schema with a name), `Fields`, a
list with the form of its items, or a JSON schema.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from enum import StrEnum
from types import NoneType, UnionType
from typing import Any, NewType, Union, get_args, get_origin, get_type_hints

from fedn.domain.identity import MEMBERS, PEOPLE, TOKEN_BYTES, AuditEntry, Role
from fedn.domain.ids import PROTOCOL_VERSION, ClientId, CombinerName, Digest, Incarnation, SessionId
from fedn.domain.messages import Assignment, Gauge, Host, LogLine
from fedn.domain.plan import MAX_HYPERPARAMETERS, MAX_STEPS, RESERVED, ROUND_PATTERN, plan_fields
from fedn.domain.round import Head, RoundRecord
from fedn.domain.update import Absence
from fedn.identity.audit import AuditReport
from fedn.ports import EventRow, MetricRow, ModelInfo, PackageInfo
from fedn.reducer.comparing import Comparison
from fedn.reducer.exporting import NAMES as FORMAT_NAMES
from fedn.reducer.exporting import Format
from fedn.reducer.inspecting import Contents, TensorForm
from fedn.reducer.lineage import Lineage
from fedn.reducer.metrics import KINDS, Best
from fedn.reducer.participation import Participation
from fedn.reducer.registrar import LABEL_LETTERS, LONGEST_SECONDS, MAX_LABELS, MAX_USES
from fedn.reducer.rest_events import MAX_NAMES
from fedn.reducer.rest_forms import MAX_PAGE
from fedn.reducer.sentences import GRAVITIES
from fedn.reducer.why_facts import Explanation
from fedn.stores.trail import TrailReport

Json = dict[str, Any]


@dataclass(frozen=True)
class Fields:
    """An object of exactly these fields; all are there unless they are ``optional``. One with a ``name`` is
    a schema of that name."""

    forms: Mapping[str, Any]
    optional: Sequence[str] = ()
    name: str = ""


@dataclass(frozen=True)
class Shape:
    """What an operation answers and takes. ``also`` are other statuses, ``upload`` a body's media type."""

    answer: Any = field(default_factory=dict)
    status: int = 200
    query: Mapping[str, Json] = field(default_factory=dict)
    body: Fields | None = None
    upload: str = ""
    media: str = "application/json"
    also: Mapping[int, str] = field(default_factory=dict)


ID: Json = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"}
DIGEST: Json = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
DIGEST_PART: Json = {"type": "string", "pattern": "^[0-9a-f]{1,64}$", "description": "Beginning or end."}
TOKEN: Json = {"type": "string", "pattern": "^[0-9a-f]{16}$"}
_PLAIN: Mapping[Any, Json] = {
    SessionId: ID, ClientId: ID, CombinerName: ID, Incarnation: ID, Digest: DIGEST,
    str: {"type": "string"}, bool: {"type": "boolean"}, int: {"type": "integer"},
    float: {"type": "number"}, NoneType: {"type": "null"}, Any: {},
}  # fmt: skip


class Schemas:
    """Turns forms into schemas; those of dataclasses are kept in ``named`` and referred to."""

    def __init__(self) -> None:
        self.named: dict[str, Json] = {}
        self.of(ERROR)

    def of(self, form: Any) -> Json:
        """The schema of a form."""
        if isinstance(form, dict):
            return form
        if isinstance(form, list):
            return {"type": "array", "items": self.of(form[0])}
        if isinstance(form, Fields):
            return self._reference(form.name, form) if form.name else self._object(form)
        if form in _PLAIN:
            return _PLAIN[form]
        if isinstance(form, NewType):
            return self.of(form.__supertype__)
        if isinstance(form, type) and issubclass(form, StrEnum):
            return {"type": "string", "enum": [str(member) for member in form]}
        if isinstance(form, type) and is_dataclass(form):
            return self._reference(form.__name__, fields_of(form))
        return self._generic(form)

    def _generic(self, form: Any) -> Json:
        origin, inner = get_origin(form), get_args(form)
        if origin in (Union, UnionType):
            return {"anyOf": [self.of(one) for one in inner]}
        if not issubclass(origin, Mapping):
            return {"type": "array", "items": self.of(inner[0])}
        # Numbers of clients may be NaN, which JSON shows as null.
        values = {"type": ["number", "null"]} if inner[1] is float else self.of(inner[1])
        return {"type": "object", "additionalProperties": values}

    def _reference(self, name: str, form: Fields) -> Json:
        if name not in self.named:
            self.named[name] = self._object(form)
        return {"$ref": f"#/components/schemas/{name}"}

    def _object(self, form: Fields) -> Json:
        properties = {name: self.of(one) for name, one in form.forms.items()}
        schema: Json = {"type": "object", "properties": properties, "additionalProperties": False}
        if required := [name for name in form.forms if name not in form.optional]:
            schema["required"] = required
        return schema


def fields_of(cls: Any, **others: Any) -> Fields:
    """A dataclass as an object, with some fields added or of another form."""
    hints = get_type_hints(cls)
    return Fields({item.name: hints[item.name] for item in fields(cls)} | others)


_SCALAR: Json = {"type": ["boolean", "integer", "number", "string"], "maxLength": 4096}
_SCHEDULE: Json = {
    "type": "object",
    "required": ["1"],
    "maxProperties": MAX_STEPS,
    "propertyNames": {"pattern": ROUND_PATTERN},
    "additionalProperties": _SCALAR,
    "description": "By the number of the round from which on a value holds.",
}


def _plan() -> Json:
    """A compute plan, with the bounds, defaults and words of its fields."""
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string", dict: "object"}
    properties: dict[str, Json] = {}
    for name, kind, default, metadata in plan_fields():
        schema: Json = {"type": kinds[kind], "default": default, "description": metadata["doc"]}
        bounds = (("minimum", "low"), ("maximum", "high"), ("enum", "choices"), ("pattern", "pattern"))
        properties[name] = schema | {word: metadata[ours] for word, ours in bounds if ours in metadata}
    properties["config"] |= {
        "maxProperties": MAX_HYPERPARAMETERS,
        "propertyNames": {"minLength": 1, "maxLength": 64, "not": {"enum": list(RESERVED)}},
        "additionalProperties": {"anyOf": [_SCALAR, _SCHEDULE]},
    }
    return {"type": "object", "properties": properties, "additionalProperties": False}


# --- pieces ----------------------------------------------------------------------------------------

ERROR = Fields({"code": str, "error": str, "details": {"type": "object"}, "status": int}, name="Error")
TITLE: Json = {"type": "string", "maxLength": 200, "description": "Printable letters."}
PEM: Json = {"type": "string", "maxLength": 16 * 2**10, "description": "PEM."}
SECRET: Json = {"type": "string", "maxLength": TOKEN_BYTES, "description": "A token's whole text."}
PINNED: Json = {"type": "string", "pattern": "^([0-9a-f]{64})?$", "description": "A head seen earlier."}
NAME: Json = {
    "type": "string",
    "pattern": "^([A-Za-z0-9][A-Za-z0-9._-]{0,63})?$",
    "description": "'' for none.",
}
USES: Json = {
    "type": "integer",
    "minimum": 0,
    "maximum": MAX_USES,
    "description": "0: no bound; not for people.",
}
EXPIRES_IN: Json = {"type": "number", "minimum": 1, "maximum": LONGEST_SECONDS, "description": "Seconds."}
MODEL: Json = {"type": "string", "pattern": "^([0-9a-f]{64})?$", "description": "'' for the newest seed."}
ADDRESS: Json = {
    "type": "string", "maxLength": 300, "description": "host:port",
    "pattern": r"^([A-Za-z0-9_.-]+|\[[0-9a-fA-F:.]+\]):[0-9]{1,5}$",
}  # fmt: skip
BYTES = "application/octet-stream"
OBJECT: Json = {"type": "object"}
LABELS: Json = {
    "type": "object", "maxProperties": MAX_LABELS, "propertyNames": ID,
    "additionalProperties": {"type": "string", "maxLength": LABEL_LETTERS},
}  # fmt: skip
SECONDS: Json = {"type": "number", "description": "Unix time."}
AFTER: Json = {"type": "integer", "minimum": -1, "maximum": 2**53, "default": -1}
LIMIT: Json = {"type": "integer", "minimum": 1, "maximum": MAX_PAGE}
PROTOCOL: Json = {"type": "integer", "minimum": 1, "maximum": PROTOCOL_VERSION + 1}
EVENT_NUMBER: Json = {"type": "integer", "minimum": 0, "maximum": 10**17}
GRAVITY: Json = {"type": "string", "enum": list(GRAVITIES)}
EVENT = fields_of(EventRow, sentence=str, gravity=GRAVITY)
PAGE: Mapping[str, Json] = {"after": AFTER, "limit": LIMIT}
NEXT = int | None

ALIVE = Fields({"status": str, "protocol": int})
MEANS = Fields({"clients": int, "examples": int, "metrics": Mapping[str, float]})
BY_ROUND = Fields({"round": int, **dict.fromkeys(KINDS, MEANS)}, optional=KINDS)
_SESSION: Mapping[str, Any] = {
    "session": ID, "name": str, "state": str, "reason": str, "created_at": SECONDS,
    "head": Head, "plan": OBJECT,
}  # fmt: skip
SESSION = Fields(_SESSION, name="Session")
_ROUND: Mapping[str, Any] = {
    "round": int, "model": DIGEST, "model_size": int, "base_model": DIGEST, "committed_at": SECONDS,
    "contributors": int, "examples": int, "combiners": [CombinerName],
    "refused": [Absence], "lost": [Absence], "digest": DIGEST,
    "seconds": Mapping[str, float],
}  # fmt: skip
ROUND = Fields(_ROUND, name="Round")
RECORD = Fields({"digest": DIGEST, "record": RoundRecord, "raw": str}, name="Record")
PLAN_FIELD: Json = {"type": "object", "required": ["name", "type", "doc", "default"]}
PROGRESS: Json = {"type": "object", "description": "What it does just now; empty once it has ended."}
UNFIT = Mapping[str, str] | None
CERTIFIED = Fields({"certificate": PEM, "authority": PEM, "expires_at": SECONDS})
TOKEN_ROW = Fields({
    "token": TOKEN, "role": Role, "name": str, "labels": LABELS, "uses": int, "used": int,
    "created_at": SECONDS, "expires_at": SECONDS, "created_by": str, "revoked_at": float | None,
}, name="Token")  # fmt: skip
NEW_TOKEN = Fields(
    {"role": {"type": "string", "enum": sorted(MEMBERS | PEOPLE)}, "name": NAME, "uses": USES,
     "expires_in": EXPIRES_IN, "labels": LABELS},
    optional=("name", "uses", "expires_in", "labels"),
)  # fmt: skip
MEMBER = Fields({
    "role": Role, "member": str, "name": str, "labels": LABELS, "token": str, "joined_at": SECONDS,
    "renewed_at": SECONDS, "expires_at": SECONDS, "revoked_at": float | None,
}, name="Member")  # fmt: skip
PACKAGE = Fields({
    "digest": DIGEST, "size": int, "name": str, "description": str, "created_at": SECONDS,
}, name="Package")  # fmt: skip
PACKAGE_SESSION = Fields({"session": ID, "name": str, "state": str, "created_at": SECONDS})
CONTENTS: Mapping[str, Any] = {"contents": Contents, "tensors": [TensorForm], "next": int | None}
ENTRY = fields_of(AuditEntry, digest=DIGEST)
METRICS = Mapping[str, float]
INQUIRY = Fields({
    "inquiry": ID, "session": ID, "kind": {"type": "string", "enum": ["prediction", "evaluation"]},
    "round": int, "model": DIGEST, "started_at": SECONDS, "running": bool, "asked": [ClientId],
    "answers": [Fields({"client": ID, "examples": int, "metrics": METRICS})],
    "failed": [Fields({"client": ID, "reason": str})], "means": MEANS,
}, name="Inquiry")  # fmt: skip
_CLIENT: Mapping[str, Any] = {
    "client": ID, "name": str, "host": Host, "attached_at": float | None, "seen_at": SECONDS,
    "received": int, "sent": int,
}  # fmt: skip
CLIENT = Fields(_CLIENT, name="Client")
HAD = Fields({
    "count": int, "moved": Mapping[str, int], "gone": int,
    "clients": [Fields({"client": ID, "name": str, "combiner": CombinerName | None})],
}, name="Had")  # fmt: skip
_COMBINER: Mapping[str, Any] = {
    "combiner": ID, "address": str, "incarnation": str, "live": bool, "seen_at": float | None,
    "draining": bool, "drained_at": float | None, "clients": [CLIENT], "host": Host,
    "received": int, "sent": int, "gauges": [Gauge], "had": HAD,
}  # fmt: skip
COMBINER = Fields(_COMBINER, name="Combiner")
ONE_COMBINER = Fields({**_COMBINER, "log": [LogLine]})
DIRECTION: Json = {"type": "string", "enum": ["", "max", "min"]}
QUESTION = Fields(
    {"model": MODEL | {"description": "'' for the newest."},
     "round": {"type": "integer", "minimum": 0, "description": "Instead of a model, one that it made."}},
    optional=("model", "round"),
)  # fmt: skip

WHY = Fields(
    {"session": ID, "round": int, "state": str, "at": SECONDS, **fields_of(Explanation).forms}, name="Why"
)

PARAMETERS: Mapping[str, Json] = {
    "session": ID,
    "inquiry": ID,
    "combiner": ID,
    "client": ID,
    "number": {"type": "integer", "minimum": 0},
    "digest": DIGEST,
    "other": DIGEST,
    "name": {"type": "string"},
    "token": TOKEN,
    "role": {"type": "string", "enum": sorted(MEMBERS)},
    "member": ID,
}
"""The variables in paths."""

SHAPES: Mapping[str, Shape] = {
    "GET /api/v1/healthz": Shape(ALIVE),
    "GET /api/v1/readyz": Shape(ALIVE),
    "GET /api/v1/openapi.json": Shape(OBJECT),
    "GET /api/v1/plan": Shape(Fields({"fields": [PLAN_FIELD]})),
    "POST /api/v1/plan/check": Shape(
        Fields({"ok": bool, "errors": [OBJECT], "preview": [str]}),
        body=Fields({"plan": OBJECT, "name": str}, optional=("name",)),
    ),
    # who is who
    "GET /api/v1/authority": Shape(Fields({"name": str, "fingerprint": DIGEST, "certificate": PEM})),
    "POST /api/v1/join": Shape(
        CERTIFIED, 201,
        body=Fields({"token": SECRET, "request": PEM, "name": NAME, "labels": LABELS},
                    optional=("name", "labels")),
    ),
    "POST /api/v1/renew": Shape(CERTIFIED, body=Fields({"request": PEM})),
    "GET /api/v1/whoami": Shape(Fields({"role": Role, "name": str, "expires_at": float | None})),
    "GET /api/v1/tokens": Shape(Fields({"tokens": [TOKEN_ROW]})),
    "POST /api/v1/tokens": Shape(Fields({**TOKEN_ROW.forms, "text": SECRET}), 201, body=NEW_TOKEN),
    "POST /api/v1/tokens/<token>/revoke": Shape(
        TOKEN_ROW, body=Fields({"members": bool}, optional=("members",))
    ),
    "GET /api/v1/members": Shape(Fields({"members": [MEMBER]})),
    "POST /api/v1/members/<role>/<member>/revoke": Shape(MEMBER),
    "GET /api/v1/audit": Shape(Fields({"entries": [ENTRY], "next": NEXT}),
                                query={"after": AFTER | {"minimum": 0, "default": 0}, "limit": LIMIT}),
    "GET /api/v1/audit/verify": Shape(AuditReport, query={"pinned": PINNED}),
    # the network
    "GET /api/v1/network": Shape(
        Fields({"protocol": int, "term": int, "combiners": [COMBINER], "gauges": [Gauge]})
    ),
    "GET /api/v1/combiners": Shape(Fields({"combiners": [Fields({**_COMBINER, "clients": int})]})),
    "GET /api/v1/combiners/<combiner>": Shape(ONE_COMBINER),
    "POST /api/v1/combiners/<combiner>/drain": Shape(ONE_COMBINER),
    "POST /api/v1/combiners/<combiner>/undrain": Shape(ONE_COMBINER),
    "POST /api/v1/combiners": Shape(
        Fields({"protocol": int, "term": int, "revoked": [str]}, optional=("revoked",)),
        body=Fields({"protocol": PROTOCOL, "combiner": ID, "address": ADDRESS, "incarnation": ID}),
    ),
    "GET /api/v1/clients": Shape(Fields({"clients": [Fields({**_CLIENT, "combiner": ID})]})),
    "GET /api/v1/clients/<client>": Shape(
        Fields({
            **_CLIENT, "name": str | None, "host": Host | None, "seen_at": float | None,
            "combiner": CombinerName | None, "last_combiner": CombinerName | None,
            "sessions": [fields_of(Participation, session=ID, name=str, state=str)],
            "log": [LogLine],
        }), query={"limit": {"type": "integer", "minimum": 0, "maximum": 20, "default": 5}},
    ),
    "POST /api/v1/clients/assignment": Shape(
        fields_of(Assignment, protocol=int),
        body=Fields(
            {"protocol": PROTOCOL, "client": ID, "prefer": str, "avoid": str},
            optional=("protocol", "prefer", "avoid"),
        ),
    ),
    # sessions
    "GET /api/v1/sessions": Shape(Fields({"sessions": [SESSION]})),
    "POST /api/v1/sessions": Shape(
        SESSION, 201,
        body=Fields({"name": TITLE, "model": MODEL, "plan": _plan()}, optional=("name", "model", "plan")),
    ),
    "GET /api/v1/sessions/<session>": Shape(Fields({**_SESSION, "progress": PROGRESS, "unfit": UNFIT})),
    "POST /api/v1/sessions/<session>/stop": Shape(SESSION),
    "POST /api/v1/sessions/<session>/pause": Shape(SESSION),
    "POST /api/v1/sessions/<session>/resume": Shape(SESSION),
    "GET /api/v1/sessions/<session>/rounds": Shape(
        Fields({"rounds": [ROUND], "head": Head, "next": NEXT}), query=PAGE
    ),
    "GET /api/v1/sessions/<session>/rounds/<int:number>": Shape(
        Fields({**_ROUND, **RECORD.forms, "rows": [MetricRow], "metrics": OBJECT})
    ),
    "GET /api/v1/sessions/<session>/why": Shape(WHY),
    "GET /api/v1/sessions/<session>/rounds/<int:number>/why": Shape(WHY),
    "GET /api/v1/sessions/<session>/metrics": Shape(
        Fields({"rounds": [BY_ROUND], "rows": [MetricRow], "next": NEXT}),
        query={"after": AFTER, "kind": {"type": "string", "enum": ["", *KINDS]}},
    ),
    "GET /api/v1/sessions/<session>/chart": Shape(
        Fields({"kind": str, "metric": str, "names": Mapping[str, list[str]], "rounds": [int],
                "mean": [float], "low": [float], "high": [float], "clients": [int], "next": NEXT}),
        query={"metric": {"type": "string"}, "after": AFTER,
               "kind": {"type": "string", "enum": ["", *KINDS]}},
    ),
    "GET /api/v1/sessions/<session>/chart/times": Shape(
        Fields({"rounds": [int], "phases": Mapping[str, list[float | None]],
                "laps": Mapping[str, list[float | None]], "next": NEXT}),
        query={"after": AFTER},
    ),
    "GET /api/v1/sessions/<session>/best": Shape(
        Best, query={"metric": {"type": "string"}, "direction": DIRECTION}
    ),
    "GET /api/v1/sessions/<session>/clients": Shape(
        Fields({"clients": [Participation], "next": ClientId | None}),
        query={"after": {"type": "string"}, "limit": LIMIT},
    ),
    "POST /api/v1/sessions/<session>/predict": Shape(INQUIRY, 202, body=QUESTION),
    "POST /api/v1/sessions/<session>/evaluate": Shape(INQUIRY, 202, body=QUESTION),
    "GET /api/v1/sessions/<session>/inquiries": Shape(Fields({"inquiries": [INQUIRY]})),
    "GET /api/v1/sessions/<session>/inquiries/<inquiry>": Shape(INQUIRY),
    "GET /api/v1/sessions/<session>/trail": Shape(
        Fields({"records": [RECORD], "head": Head, "next": NEXT}), query=PAGE
    ),
    "GET /api/v1/sessions/<session>/trail/verify": Shape(fields_of(TrailReport, ok=bool)),
    # models, packages and events
    "GET /api/v1/models": Shape(
        Fields({"models": [ModelInfo]}), query={"limit": LIMIT, "digest": DIGEST_PART}
    ),
    "POST /api/v1/models": Shape(fields_of(ModelInfo, known=bool), 201, query={"name": TITLE}, upload=BYTES),
    "GET /api/v1/models/formats": Shape(Fields({"formats": [Format]})),
    "POST /api/v1/models/check": Shape(
        Fields({"digest": DIGEST, "known": bool, "name": str, **CONTENTS}), upload=BYTES
    ),
    "GET /api/v1/models/<digest>/tensors": Shape(Fields({"digest": DIGEST, **CONTENTS}), query=PAGE),
    "GET /api/v1/models/<digest>/compare/<other>": Shape(
        fields_of(Comparison, first=DIGEST, second=DIGEST), query={"limit": LIMIT}
    ),
    "GET /api/v1/models/<digest>/lineage": Shape(Lineage),
    "GET /api/v1/models/<digest>": Shape(
        {"type": "string", "format": "binary"}, media=BYTES,
        query={"format": {"type": "string", "enum": list(FORMAT_NAMES)}},
        also={206: "The part that Range asked for.", 304: "If-None-Match names it: there is nothing new.",
              307: "Fedn-Follows was sent, and the model store gives it."},
    ),
    "GET /api/v1/models/<digest>/info": Shape(ModelInfo),
    "GET /api/v1/packages": Shape(Fields({"packages": [PACKAGE]}), query={"limit": LIMIT}),
    "POST /api/v1/packages": Shape(PackageInfo, 201, upload=BYTES),
    "GET /api/v1/packages/<digest>": Shape(PackageInfo),
    "GET /api/v1/packages/<digest>/info": Shape(fields_of(PackageInfo, sessions=[PACKAGE_SESSION])),
    "GET /api/v1/packages/<digest>/files": Shape(
        Fields({"digest": DIGEST, "files": [Fields({"path": str, "size": int, "executable": bool})]})
    ),
    "GET /api/v1/packages/<digest>/files/<path:name>": Shape({"type": "string"}, media="text/plain"),
    "GET /api/v1/events": Shape(
        Fields({"events": [EVENT], "next": NEXT}),
        query={
            "after": AFTER, "before": AFTER, "limit": LIMIT, "session": ID, "round": AFTER,
            "event": {"type": "array", "maxItems": MAX_NAMES,
                      "items": {"type": "string", "pattern": "^[a-z_]{1,64}$"}},
            "gravity": {"type": "array", "items": GRAVITY},
            "newest": {"type": "integer", "enum": [0, 1]},
        },
    ),
    "GET /api/v1/events/<int:number>": Shape(EVENT),
    "GET /api/v1/events/stream": Shape(
        {"type": "string"}, media="text/event-stream", query={"after": EVENT_NUMBER}
    ),
}  # fmt: skip
"""By method and rule, as in `fedn.identity.roles`."""

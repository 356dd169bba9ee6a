"""Who may do what: one row for every REST route, page and RPC. docs/security.md shows the same table.

What has no row is refused to everybody. In a network without identity everybody may do everything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fedn.domain.identity import PEOPLE, Role

A, O, V = Role.ADMIN, Role.OPERATOR, Role.VIEWER  # noqa: E741 — columns of a table
COMBINER, CLIENT, REDUCER = Role.COMBINER, Role.CLIENT, Role.REDUCER


@dataclass(frozen=True, slots=True)
class Row:
    """Who may, and as what it is written into the audit log ('' if it is not)."""

    roles: frozenset[Role]
    audit: str = ""


def _row(*roles: Role, audit: str = "") -> Row:
    return Row(frozenset(roles), audit)


EVERYBODY = Row(frozenset(Role))
READ = _row(A, O, V)
RUN = _row(A, O)

REST: Mapping[str, Row] = {
    # is it alive; how to come in
    "GET /healthz": EVERYBODY,
    "GET /api/v1/healthz": EVERYBODY,
    "GET /readyz": EVERYBODY,
    "GET /api/v1/readyz": EVERYBODY,
    "GET /favicon.ico": EVERYBODY,
    "GET /static/<path:filename>": EVERYBODY,
    "GET /library/<name>": EVERYBODY,
    "GET /login": EVERYBODY,
    "POST /login": EVERYBODY,
    "POST /logout": EVERYBODY,
    "GET /api/v1/authority": EVERYBODY,
    "POST /api/v1/join": EVERYBODY,  # the token in it says who
    "POST /api/v1/renew": EVERYBODY,  # the key that signs it says who
    # pages
    "GET /": READ,
    "GET /network": READ,
    "GET /network/join": RUN,
    "GET /network/join/client.yaml": RUN,
    "GET /combiners/<combiner>": READ,
    "GET /clients/<client>": READ,
    "GET /seed": READ,
    "GET /models": READ,
    "GET /models/<digest>": READ,
    "GET /models/<digest>/compare/<other>": READ,
    "GET /sessions/<session>/trail": READ,
    "GET /packages": READ,
    "GET /packages/<digest>": READ,
    "GET /people": READ,
    "GET /start": READ,
    "GET /control": READ,
    "GET /sessions/<session>": READ,
    "GET /plot": READ,
    "GET /dashboard": READ,
    "GET /sessions/<session>/why": READ,
    "GET /sessions/<session>/rounds/<int:number>/why": READ,
    "GET /events": READ,
    "GET /events/<int:number>": READ,
    "GET /api/": READ,
    # looking
    "GET /api/v1/whoami": _row(A, O, V, COMBINER, CLIENT),
    "GET /api/v1/openapi.json": READ,
    "GET /metrics": READ,
    "GET /api/v1/plan": READ,
    "POST /api/v1/plan/check": READ,
    "GET /api/v1/network": READ,
    "GET /api/v1/combiners": READ,
    "GET /api/v1/combiners/<combiner>": READ,
    "GET /api/v1/clients": READ,
    "GET /api/v1/clients/<client>": READ,
    "GET /api/v1/sessions": READ,
    "GET /api/v1/sessions/<session>": READ,
    "GET /api/v1/sessions/<session>/rounds": READ,
    "GET /api/v1/sessions/<session>/rounds/<int:number>": READ,
    "GET /api/v1/sessions/<session>/why": READ,
    "GET /api/v1/sessions/<session>/rounds/<int:number>/why": READ,
    "GET /api/v1/sessions/<session>/metrics": READ,
    "GET /api/v1/sessions/<session>/chart": READ,
    "GET /api/v1/sessions/<session>/chart/times": READ,
    "GET /api/v1/sessions/<session>/best": READ,
    "GET /api/v1/sessions/<session>/clients": READ,
    "GET /api/v1/sessions/<session>/inquiries": READ,
    "GET /api/v1/sessions/<session>/inquiries/<inquiry>": READ,
    "GET /api/v1/sessions/<session>/trail": READ,
    "GET /api/v1/sessions/<session>/trail/verify": READ,
    "GET /api/v1/events": READ,
    "GET /api/v1/events/<int:number>": READ,
    "GET /api/v1/events/stream": READ,
    "GET /api/v1/models": READ,
    "GET /api/v1/models/formats": READ,
    "GET /api/v1/models/<digest>/info": READ,
    "GET /api/v1/models/<digest>/tensors": READ,
    "GET /api/v1/models/<digest>/compare/<other>": READ,
    "GET /api/v1/models/<digest>/lineage": READ,
    "GET /api/v1/packages": _row(A, O, V, COMBINER, CLIENT),
    "GET /api/v1/packages/<digest>": _row(A, O, V, COMBINER, CLIENT),
    "GET /api/v1/packages/<digest>/info": READ,
    "GET /api/v1/packages/<digest>/files": READ,
    "GET /api/v1/packages/<digest>/files/<path:name>": READ,
    # running
    "POST /api/v1/models/check": RUN,
    "POST /api/v1/models": _row(A, O, audit="model_seeded"),
    "GET /api/v1/models/<digest>": _row(A, O, COMBINER, audit="model_downloaded"),
    "POST /api/v1/packages": _row(A, O, audit="package_uploaded"),
    "POST /api/v1/sessions": _row(A, O, audit="session_started"),
    "POST /api/v1/sessions/<session>/pause": _row(A, O, audit="session_paused"),
    "POST /api/v1/sessions/<session>/resume": _row(A, O, audit="session_resumed"),
    "POST /api/v1/sessions/<session>/stop": _row(A, O, audit="session_stopped"),
    "POST /api/v1/combiners/<combiner>/drain": _row(A, O, audit="combiner_drained"),
    "POST /api/v1/combiners/<combiner>/undrain": _row(A, O, audit="combiner_undrained"),
    "POST /api/v1/sessions/<session>/predict": _row(A, O, audit="prediction_asked"),
    "POST /api/v1/sessions/<session>/evaluate": _row(A, O, audit="evaluation_asked"),
    # who is who
    "GET /api/v1/tokens": _row(A),
    "POST /api/v1/tokens": _row(A, audit="token_created"),
    "POST /api/v1/tokens/<token>/revoke": _row(A, audit="token_revoked"),
    "GET /api/v1/members": RUN,
    "POST /api/v1/members/<role>/<member>/revoke": _row(A, audit="member_revoked"),
    "GET /api/v1/audit": _row(A),
    "GET /api/v1/audit/verify": _row(A),
    # members, each for itself alone
    "POST /api/v1/combiners": _row(COMBINER),
    "POST /api/v1/clients/assignment": _row(CLIENT),
}
"""By method and rule, as Flask has it. HEAD is as GET."""

RPC: Mapping[str, frozenset[Role]] = {
    "/fedn.v1.CombinerControl/Watch": frozenset({REDUCER}),
    "/fedn.v1.CombinerControl/RunRound": frozenset({REDUCER}),
    "/fedn.v1.CombinerControl/RunValidation": frozenset({REDUCER}),
    "/fedn.v1.CombinerControl/Fetch": frozenset({REDUCER}),
    "/fedn.v1.CombinerControl/Ack": frozenset({REDUCER}),
    "/fedn.v1.CombinerControl/Abort": frozenset({REDUCER}),
    "/fedn.v1.CombinerControl/Release": frozenset({REDUCER}),
    "/fedn.v1.CombinerControl/Admit": frozenset({REDUCER}),
    "/fedn.v1.CombinerControl/Settle": frozenset({REDUCER}),
    "/fedn.v1.CombinerControl/Drain": frozenset({REDUCER}),
    "/fedn.v1.Combiner/Attach": frozenset({CLIENT}),  # as itself alone
    "/fedn.v1.Combiner/Fetch": frozenset({CLIENT}),
    "/fedn.v1.Combiner/Submit": frozenset({CLIENT}),  # with a grant of its own
    "/grpc.health.v1.Health/Check": frozenset({REDUCER, COMBINER, CLIENT}),  # its own container asks it, too
    "/grpc.health.v1.Health/List": frozenset({REDUCER, CLIENT}),
    "/grpc.health.v1.Health/Watch": frozenset({REDUCER, CLIENT}),
}
"""By full method name, all served by combiners."""


def may_rest(role: Role, method: str, rule: str) -> bool:
    """Whether ``role`` may ask for a route, by its method and Flask's rule for it."""
    row = row_of(method, rule)
    return role is Role.ANYBODY or (row is not None and role in row.roles)


def row_of(method: str, rule: str) -> Row | None:
    """The row of a route; None if it has none."""
    return REST.get(f"{'GET' if method == 'HEAD' else method} {rule}")


def may_rpc(role: Role, method: str) -> bool:
    """Whether ``role`` may make a call, by its full method name."""
    return role is Role.ANYBODY or role in RPC.get(method, frozenset())


__all__ = ["EVERYBODY", "PEOPLE", "REST", "RPC", "Row", "may_rest", "may_rpc", "row_of"]

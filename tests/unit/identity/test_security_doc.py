"""docs/security.md shows the very table that the code goes by, row by row, for REST and RPC."""

from __future__ import annotations

import re
from pathlib import Path

from fedn.domain.identity import Role
from fedn.identity.roles import REST, RPC

DOC = Path(__file__).parents[3] / "docs" / "security.md"


def block(name: str) -> list[list[str]]:
    """The cells of the marked table, header first, without the line under it."""
    text = DOC.read_text(encoding="utf-8")
    (found,) = re.findall(rf"<!-- {name} -->\n(.*?)\n<!-- end of {name} -->", text, re.DOTALL)
    rows = [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in found.splitlines()]
    return [rows[0], *rows[2:]]


def written(name: str, roles: list[Role]) -> dict[str, frozenset[Role]]:
    """What the document says: who may, by row."""
    header, *rows = block(name)
    assert header[1 : 1 + len(roles)] == roles
    named = [row[0] for row in rows]
    assert len(named) == len(set(named)), "a row stands twice"
    for row in rows:
        assert set(row[1 : 1 + len(roles)]) <= {"yes", ""}, row
    return {
        row[0]: frozenset(role for role, cell in zip(roles, row[1:], strict=False) if cell) for row in rows
    }


REST_ROLES = [Role.ADMIN, Role.OPERATOR, Role.VIEWER, Role.COMBINER, Role.CLIENT, Role.NOBODY]
RPC_ROLES = [Role.REDUCER, Role.COMBINER, Role.CLIENT]


def test_every_route_stands_there_as_it_is():
    assert written("routes", REST_ROLES) == {
        route: row.roles & frozenset(REST_ROLES) for route, row in REST.items()
    }


def test_what_is_audited_stands_there_as_it_is():
    header, *rows = block("routes")
    assert header[-1] == "audited as"
    assert {row[0]: row[-1] for row in rows} == {route: row.audit for route, row in REST.items()}


def test_every_rpc_stands_there_as_it_is():
    assert written("calls", RPC_ROLES) == {call: roles & frozenset(RPC_ROLES) for call, roles in RPC.items()}


def test_no_role_is_left_out():
    assert set(Role) == {*REST_ROLES, *RPC_ROLES, Role.ANYBODY}
    assert all(roles <= frozenset(RPC_ROLES) for roles in RPC.values())

"""Whatever is asked in whatever order, the SQLite identity store and its memory twin say the same."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from fedn.domain.errors import FednError
from fedn.domain.identity import AuditNote, Role
from fedn.domain.ids import digest_of
from fedn.identity.audit import verify_audit
from fedn.ports import IdentityStore
from fedn.stores.memory import MemoryState
from fedn.stores.sqlite import SqliteState
from fedn.testing.contracts.samples import join_token, joining, note_of

TOKENS = st.sampled_from([letter * 16 for letter in "abc"])
MEMBERS = st.sampled_from(["c1", "c2", "c3"])
ROLES = st.sampled_from([Role.CLIENT, Role.COMBINER])
NAMES = st.sampled_from(["ward", "ward", "", "c1", "c2"])
KEYS = st.sampled_from([b"1", b"1", b"1", b"2"])
MOMENTS = st.floats(1.0, 100.0)
WORDS = st.text(max_size=5)
LABELS = st.dictionaries(WORDS, WORDS, max_size=2)
SCALARS = st.one_of(WORDS, st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans())


class Twins(RuleBasedStateMachine):
    """Every rule asks both stores; what they answer, and what they hold afterwards, has to be the same."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.sqlite, self.memory = SqliteState(Path(self.folder.name) / "state.db"), MemoryState()

    def teardown(self) -> None:
        self.sqlite.close()
        self.folder.cleanup()

    def both(self, ask: Callable[[IdentityStore], object]) -> None:
        answers = []
        for store in (self.sqlite.identity, self.memory.identity):
            try:
                answers.append(ask(store))
            except FednError as error:
                answers.append((error.code, error.message, dict(error.details)))
        assert answers[0] == answers[1]

    @rule(token=TOKENS, role=ROLES, uses=st.integers(-1, 3), at=MOMENTS, expires=MOMENTS, labels=LABELS)
    def add_token(self, token, role, uses, at, expires, labels):
        made = join_token(token, role=role, uses=uses, created_at=at, expires_at=expires, labels=labels)
        self.both(lambda store: store.add_token(made, note_of("token_created", token)))

    @rule(token=TOKENS)
    def add_the_same_token(self, token):
        self.both(lambda store: store.add_token(replace(store.token(token), used=0, revoked_at=0.0)))

    @rule(token=TOKENS, now=MOMENTS)
    def revoke_token(self, token, now):
        self.both(lambda store: store.revoke_token(token, now, note_of("token_revoked", token)))

    @rule(token=TOKENS, role=ROLES, member=MEMBERS, name=NAMES, key=KEYS, now=MOMENTS, labels=LABELS)
    def enroll(self, token, role, member, name, key, now, labels):
        own = {"role": role, "name": name, "key": digest_of(key), "labels": labels}
        made = joining(join_token(token), member, now, **own)
        self.both(lambda store: store.enroll(made, now, note_of("joined", member)))

    @rule(role=ROLES, member=MEMBERS, now=MOMENTS, expires=MOMENTS)
    def renew(self, role, member, now, expires):
        self.both(lambda store: store.renew(role, member, now, expires, note_of("renewed", member)))

    @rule(role=ROLES, member=MEMBERS, now=MOMENTS)
    def revoke_member(self, role, member, now):
        self.both(lambda store: store.revoke_member(role, member, now, note_of("revoked", member)))

    @rule(token=TOKENS, now=MOMENTS)
    def revoke_joined(self, token, now):
        self.both(lambda store: store.revoke_joined(token, now, lambda each: note_of("out", each.member)))

    @rule(at=MOMENTS, actor=WORDS, details=st.dictionaries(WORDS, SCALARS, max_size=3))
    def append_audit(self, at, actor, details):
        self.both(lambda store: store.append_audit(AuditNote(at, actor, "tried", "x", details)))

    @rule(now=MOMENTS, limit=st.integers(0, 3), after=st.integers(-1, 5))
    def ask_for_pages(self, now, limit, after):
        self.both(lambda store: store.tokens(limit))
        self.both(lambda store: store.members(limit))
        self.both(lambda store: store.revoked(now, limit))
        self.both(lambda store: store.raw_audit(after, limit))

    @invariant()
    def the_same_is_held(self):
        self.both(lambda store: (store.tokens(), store.members(), store.revoked(0.0), store.audit()))
        self.both(verify_audit)

    @invariant()
    def no_token_is_used_more_often_than_it_says(self):
        for token in self.memory.identity.tokens():
            assert not token.uses or token.used <= token.uses


TestTwins = Twins.TestCase
TestTwins.settings = settings(deadline=None, max_examples=60, stateful_step_count=30)

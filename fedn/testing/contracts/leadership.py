"""The promises of `fedn.ports.Leadership`, as tests. See the package docstring for how to use them."""

from __future__ import annotations

import threading

import pytest

from fedn.domain.errors import StaleTerm
from fedn.domain.round import head_of
from fedn.ports import Lease, StateStore
from fedn.testing.contracts.samples import genesis, session_info, successor
from fedn.testing.contracts.state_store import together

LONG, SHORT = 600.0, 0.2


class LeadershipContract:
    """Subclass and provide a fixture ``store`` that yields an empty StateStore."""

    def test_one_leads_and_the_other_is_told_who(self, store: StateStore) -> None:
        mine = store.leadership.take("a", LONG)
        assert (mine.holder, mine.left) == ("a", LONG)
        assert mine.term == store.newest_term() > 0
        other = store.leadership.take("b", LONG)
        assert (other.holder, other.term) == ("a", mine.term)
        assert 0 < other.left <= LONG
        assert store.newest_term() == mine.term

    def test_one_of_many_who_take_it_at_once_leads(self, store: StateStore) -> None:
        names = [f"reducer {number}" for number in range(8)]
        leases = together([lambda name=name: store.leadership.take(name, LONG) for name in names])  # type: ignore[misc]
        assert len({(lease.holder, lease.term) for lease in leases}) == 1

    def test_a_lease_that_is_not_renewed_ends(self, store: StateStore) -> None:
        first = store.leadership.take("a", SHORT)
        second = until_taken(store, "b")
        assert second.term > first.term
        with pytest.raises(StaleTerm):
            store.leadership.renew(first, LONG)
        assert store.leadership.take("a", LONG).holder == "b"

    def test_a_renewed_lease_lasts(self, store: StateStore) -> None:
        mine = store.leadership.take("a", SHORT)
        store.leadership.renew(mine, LONG)
        assert store.leadership.take("b", LONG).left > SHORT
        assert store.newest_term() == mine.term

    def test_who_was_late_goes_on_if_nobody_took_it(self, store: StateStore) -> None:
        mine = store.leadership.take("a", 0.001)
        threading.Event().wait(0.01)
        store.leadership.renew(mine, LONG)
        assert store.leadership.take("b", LONG).holder == "a"

    def test_a_lease_that_was_given_up_is_free(self, store: StateStore) -> None:
        mine = store.leadership.take("a", LONG)
        for _ in range(2):
            store.leadership.give_up(mine)
        other = store.leadership.take("b", LONG)
        assert (other.holder, other.term > mine.term) == ("b", True)
        store.leadership.give_up(mine)  # it is another's by now
        assert store.leadership.take("c", LONG).holder == "b"
        with pytest.raises(StaleTerm):
            store.leadership.renew(mine, LONG)

    def test_a_dead_ones_lease_is_not_waited_for(self, store: StateStore) -> None:
        dead = store.leadership.take("a", LONG)
        assert store.leadership.take("b", LONG, instead_of="c").holder == "a"
        assert store.leadership.take("b", LONG, instead_of="a").term > dead.term
        again = store.leadership.take("b", LONG)
        assert (again.holder, again.left) == ("b", LONG)

    def test_who_lost_the_lease_decides_nothing(self, store: StateStore) -> None:
        first = genesis()
        store.add_session(session_info(first), first)
        old = store.leadership.take("a", LONG)
        new = store.leadership.take("b", LONG, instead_of="a")
        with pytest.raises(StaleTerm):
            store.commit_round(successor(first), old.term)
        with pytest.raises(StaleTerm):
            store.set_session_state(first.record.session, "failed", "", old.term)
        assert store.commit_round(successor(first), new.term) == head_of(successor(first))

    def test_a_term_that_is_taken_ends_the_lease(self, store: StateStore) -> None:
        mine = store.leadership.take("a", LONG)
        assert store.take_term() > mine.term
        with pytest.raises(StaleTerm):
            store.leadership.renew(mine, LONG)
        assert store.leadership.take("b", LONG).holder == "b"


def until_taken(store: StateStore, holder: str) -> Lease:
    """Wait for another's lease to end."""
    while True:
        lease = store.leadership.take(holder, LONG)
        if lease.holder == holder:
            return lease
        threading.Event().wait(lease.left)

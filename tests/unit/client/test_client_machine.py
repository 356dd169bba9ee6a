"""What a client does with its tasks, told as transcripts of events and commands."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fedn.client import events as ev
from fedn.client import machine
from fedn.domain.ids import ClientId, SessionId, digest_of
from fedn.domain.messages import Task, TaskKind
from fedn.domain.update import UpdateHeader

S = SessionId("s")


def task(round_: int = 1, kind: TaskKind = TaskKind.TRAIN, session: str = "s", model: bytes = b"") -> Task:
    base = digest_of(b"model %d" % round_ + model)
    return Task(SessionId(session), round_, kind, base, 100, "{}", 0)


def update(of: Task) -> UpdateHeader:
    """The update that training for a task makes."""
    digest, layout = digest_of(f"{of.session} {of.round}".encode()), digest_of(b"layout")
    return UpdateHeader(of.session, of.round, ClientId("ann"), of.model, 10, 100, digest, layout)


def granted(of: Task, grant: str = "g1", offset: int = 0) -> ev.UploadGranted:
    return ev.UploadGranted(of.session, of.round, update(of).digest, grant, offset)


def receipt(of: Task) -> ev.ReceiptArrived:
    return ev.ReceiptArrived(of.session, of.round, update(of).digest)


ONE, TWO = task(1), task(2)
VALIDATE = task(1, TaskKind.VALIDATE)
OFFER, OFFER_TWO = (ev.SendOffer(update(of), 0) for of in (ONE, TWO))
SETTLED = ev.UpdateEnded(S, 1, "")


class Story:
    """A client that remembers its state; every call is one event and returns its commands."""

    def __init__(self, *events: ev.Event, attached: bool = True) -> None:
        self.state = ev.State(attached=attached)
        for event in events:
            self(event)

    def __call__(self, event: ev.Event) -> tuple[ev.Command, ...]:
        self.state, commands = machine.step(self.state, event)
        return commands

    def standing(self, of: Task) -> type[ev.TaskState] | None:
        found = self.state.tasks.get(ev.key_of(of))
        return None if found is None else type(found)


WORKING = (ev.TaskReceived(ONE),)
OFFERING = (*WORKING, ev.UpdateKept(update(ONE)))
UPLOADING = (*OFFERING, granted(ONE))
HOLDING = (*UPLOADING, receipt(ONE))
HELD = pytest.mark.parametrize(
    "before", [OFFERING, UPLOADING, HOLDING], ids=["offering", "uploading", "holding"]
)


# --- the ordinary way ------------------------------------------------------------------------------


def test_task_work_kept_offer_grant_upload_receipt_settled() -> None:
    client = Story(attached=False)
    assert client(ev.Attached()) == ()
    assert client(ev.TaskReceived(ONE)) == (ev.DoTask(ONE),)
    assert client(ev.UpdateKept(update(ONE))) == (OFFER,)
    assert client(granted(ONE, offset=7)) == (ev.SendUpload(update(ONE), "g1", 7),)
    assert client(receipt(ONE)) == ()
    assert client.standing(ONE) is ev.Holding
    assert client(SETTLED) == (ev.ForgetUpdate(update(ONE)),)
    assert client.state == ev.State(attached=True, over={S: 1})


def test_a_receipt_without_another_upload_is_enough() -> None:
    client = Story(*OFFERING)
    assert client(receipt(ONE)) == ()
    assert client.standing(ONE) is ev.Holding


def test_something_is_under_way_until_the_last_update_is_settled() -> None:
    story = Story()
    assert not story.state.under_way
    for event in (*OFFERING, granted(ONE), receipt(ONE)):
        story(event)
        assert story.state.under_way
    story(SETTLED)
    assert not story.state.under_way


def test_holding_takes_no_slot() -> None:
    client = Story(*HOLDING)
    assert client(ev.TaskReceived(TWO)) == (ev.DoTask(TWO),)


def test_a_validation_reports_and_is_gone() -> None:
    client = Story()
    assert client(ev.TaskReceived(VALIDATE)) == (ev.DoTask(VALIDATE),)
    key = ev.key_of(VALIDATE)
    done = ev.ModelEvaluated(key, VALIDATE.model, 5, {"loss": 0.5})
    assert client(done) == (ev.SendReport(key, VALIDATE.model, 5, {"loss": 0.5}),)
    assert client.state == ev.State(attached=True)


# --- nobody trains twice ---------------------------------------------------------------------------


def test_the_same_task_again_while_it_is_queued_or_at_work_starts_nothing() -> None:
    client = Story(*WORKING)
    assert client(ev.TaskReceived(ONE)) == ()
    other = task(1, session="t")
    client(ev.TaskReceived(other))
    assert client(ev.TaskReceived(other)) == ()
    assert client(ev.UpdateKept(update(ONE))) == (OFFER, ev.DoTask(other))


@HELD
def test_the_same_task_again_with_its_update_held_is_an_offer(before: tuple[ev.Event, ...]) -> None:
    client = Story(*before)
    assert client(ev.TaskReceived(ONE)) == (OFFER,)
    assert client.standing(ONE) is ev.Offering


def test_an_upload_whose_part_has_closed_is_offered_to_the_next_part() -> None:
    """The bytes went out but no receipt came; the next part's task is all that the client hears."""
    client = Story(*UPLOADING)
    client(ev.TaskReceived(ONE))
    assert client(granted(ONE, "g2")) == (ev.SendUpload(update(ONE), "g2", 0),)


def test_an_update_recovered_from_the_journal_is_offered_not_trained_again() -> None:
    client = Story(ev.UpdateKept(update(ONE)), attached=False)
    assert client(ev.Attached()) == (OFFER,)
    assert client(ev.TaskReceived(ONE)) == (OFFER,)


def test_a_task_cancelled_and_asked_for_again_while_it_trains_is_trained_once() -> None:
    client = Story(*WORKING, ev.TaskDropped(ev.key_of(ONE)))
    assert client(ev.TaskReceived(ONE)) == ()
    assert client(ev.UpdateKept(update(ONE))) == (OFFER,)


@HELD
def test_only_another_base_model_makes_a_held_update_worthless(before: tuple[ev.Event, ...]) -> None:
    client = Story(*before)
    other = task(1, model=b"other")
    assert client(ev.TaskReceived(other)) == (ev.ForgetUpdate(update(ONE)), ev.DoTask(other))


# --- broken links ----------------------------------------------------------------------------------


@HELD
def test_everything_held_is_offered_on_every_attach(before: tuple[ev.Event, ...]) -> None:
    client = Story(*before)
    assert client(ev.Detached()) == ()
    assert client(ev.Attached()) == (OFFER,)
    assert client.standing(ONE) is ev.Offering


def test_several_held_updates_are_all_offered() -> None:
    client = Story(*HOLDING, ev.TaskReceived(TWO), ev.UpdateKept(update(TWO)), ev.Detached())
    assert client(ev.Attached()) == (OFFER, OFFER_TWO)


def test_training_goes_on_while_detached_and_is_offered_on_attach() -> None:
    client = Story(*WORKING, ev.Detached())
    assert client(ev.UpdateKept(update(ONE))) == ()
    assert client(ev.Attached()) == (OFFER,)


def test_queued_work_waits_for_a_link() -> None:
    client = Story(*WORKING, ev.TaskReceived(VALIDATE), ev.Detached())
    assert client(ev.UpdateKept(update(ONE))) == ()
    assert client(ev.Attached()) == (OFFER, ev.DoTask(VALIDATE))


def test_a_broken_upload_is_offered_again_a_little_later_each_time() -> None:
    client = Story(*UPLOADING)
    assert client(ev.UploadBroke(update(ONE), "g1")) == (ev.SendOffer(update(ONE), 1),)
    client(granted(ONE, "g2", offset=50))
    assert client(ev.UploadBroke(update(ONE), "g2")) == (ev.SendOffer(update(ONE), 2),)


def test_the_end_of_an_upload_that_was_replaced_changes_nothing() -> None:
    client = Story(*UPLOADING, ev.Detached(), ev.Attached(), granted(ONE, "g2"))
    assert client(ev.UploadBroke(update(ONE), "g1")) == ()
    assert client.standing(ONE) is ev.Uploading
    client(receipt(ONE))
    assert client(ev.UploadBroke(update(ONE), "g2")) == ()


def test_work_that_failed_with_its_link_waits_for_the_task_to_come_again() -> None:
    client = Story(*WORKING, ev.Detached())
    assert client(ev.WorkFailed(ev.key_of(ONE), "link broken", final=False)) == ()
    client(ev.Attached())
    assert client(ev.TaskReceived(ONE)) == (ev.DoTask(ONE),)


def test_work_that_fails_with_its_old_link_after_the_task_came_again_begins_anew() -> None:
    client = Story(*WORKING, ev.Detached(), ev.Attached())
    assert client(ev.TaskReceived(ONE)) == ()
    assert client(ev.WorkFailed(ev.key_of(ONE), "link broken", final=False)) == (ev.DoTask(ONE),)


def test_work_whose_fetch_broke_is_tried_again_while_attached() -> None:
    client = Story(*WORKING)
    assert client(ev.WorkFailed(ev.key_of(ONE), "link broken", final=False)) == (ev.DoTask(ONE),)
    client(ev.Detached())
    assert client(ev.WorkFailed(ev.key_of(ONE), "link broken", final=False)) == ()
    assert client.state == ev.State()


def test_a_second_grant_while_uploading_starts_no_second_upload() -> None:
    client = Story(*UPLOADING)
    assert client(granted(ONE, "g1", offset=10)) == ()


def test_a_grant_while_holding_means_that_the_sum_is_gone() -> None:
    client = Story(*HOLDING)
    assert client(granted(ONE, "g2")) == (ev.SendUpload(update(ONE), "g2", 0),)


@HELD
def test_asked_to_offer_again(before: tuple[ev.Event, ...]) -> None:
    client = Story(*before)
    assert client(ev.ReofferAsked(S, 1)) == (OFFER,)


def test_asked_to_offer_what_is_not_there() -> None:
    client = Story(*WORKING)
    assert client(ev.ReofferAsked(S, 1)) == ()
    assert client(ev.ReofferAsked(S, 2)) == ()
    assert client.standing(ONE) is ev.Working


# --- ends ------------------------------------------------------------------------------------------


@HELD
def test_settled_or_refused_is_forgotten_in_every_state(before: tuple[ev.Event, ...]) -> None:
    forgotten = (ev.ForgetUpdate(update(ONE)),)
    assert Story(*before)(SETTLED) == forgotten
    refused = Story(*before)
    assert refused(ev.UpdateEnded(S, 1, update(ONE).digest)) == forgotten
    assert refused(ev.UpdateEnded(S, 1, update(ONE).digest)) == ()


def test_a_refusal_or_grant_of_another_update_changes_nothing() -> None:
    client, other = Story(*OFFERING), digest_of(b"another")
    before = client.state
    assert client(ev.UpdateEnded(S, 1, other)) == ()
    assert client(ev.UploadGranted(S, 1, other, "g", 0)) == ()
    assert client(ev.ReceiptArrived(S, 1, other)) == ()
    assert client.state == before


def test_the_result_of_a_training_whose_round_was_settled_meanwhile_is_dropped() -> None:
    client = Story(*WORKING)
    assert client(SETTLED) == (ev.StopWork(ONE),)
    assert client.state.slot == ev.key_of(ONE)
    assert client(ev.UpdateKept(update(ONE))) == (ev.ForgetUpdate(update(ONE)),)
    assert client.state == ev.State(attached=True, over={S: 1})


def test_a_cancelled_training_is_finished_and_offered_for_the_round_may_ask_for_it_elsewhere() -> None:
    client = Story(*WORKING, ev.TaskDropped(ev.key_of(ONE)))
    assert client(ev.TaskReceived(TWO)) == ()
    assert client(ev.UpdateKept(update(ONE))) == (OFFER, ev.DoTask(TWO))


def test_a_cancelled_task_that_waits_is_gone() -> None:
    client = Story(ev.TaskReceived(task(session="busy")), ev.TaskReceived(ONE))
    assert client(ev.TaskDropped(ev.key_of(ONE))) == ()
    assert client.standing(ONE) is None


def test_a_late_task_of_a_round_that_is_over_is_refused_and_never_trained() -> None:
    over = (ev.SendFailure(ev.key_of(ONE), "round 1 is over for this client"),)
    assert Story(*HOLDING, SETTLED)(ev.TaskReceived(ONE)) == over
    refused = ev.UpdateEnded(S, 1, update(ONE).digest)
    assert Story(*OFFERING, refused)(ev.TaskReceived(ONE)) == over
    assert Story(ev.TaskReceived(TWO))(ev.TaskReceived(ONE)) == over
    assert Story(SETTLED)(ev.TaskReceived(TWO)) == (ev.DoTask(TWO),)


def test_how_far_sessions_are_over_is_remembered_for_a_bounded_number() -> None:
    client = Story(*(ev.UpdateEnded(SessionId(f"s{n}"), 1, "") for n in range(ev.MAX_SESSIONS + 1)))
    assert len(client.state.over) == ev.MAX_SESSIONS
    assert SessionId("s0") not in client.state.over


def test_a_model_that_is_gone_ends_its_task_without_a_word() -> None:
    client = Story(*WORKING)
    assert client(ev.ModelGone(ev.key_of(ONE))) == ()
    assert client(ev.TaskReceived(ONE)) == (ev.DoTask(ONE),)


@HELD
def test_cancelling_does_not_touch_a_held_update(before: tuple[ev.Event, ...]) -> None:
    client = Story(*before)
    at = client.state
    assert client(ev.TaskDropped(ev.key_of(ONE))) == ()
    assert client.state == at


def test_the_users_failure_is_told_once() -> None:
    client, key = Story(*WORKING), ev.key_of(ONE)
    assert client(ev.WorkFailed(key, "boom", final=True)) == (ev.SendFailure(key, "boom"),)
    assert client.state == ev.State(attached=True)


def test_the_metrics_of_cancelled_work_are_not_told() -> None:
    client, key = Story(ev.TaskReceived(VALIDATE)), ev.key_of(VALIDATE)
    client(ev.TaskDropped(key))
    assert client(ev.ModelEvaluated(key, VALIDATE.model, 5, {})) == ()


# --- the queue -------------------------------------------------------------------------------------


def test_training_goes_before_validation_and_newer_rounds_first() -> None:
    busy, older, newer = task(9, session="busy"), task(3, session="a"), task(4, session="b")
    client = Story(*(ev.TaskReceived(t) for t in (busy, VALIDATE, older, newer)))
    order = []
    for _ in range(3):
        (working,) = [t.task for t in client.state.tasks.values() if isinstance(t, ev.Working)]
        (*_, started) = client(ev.UpdateKept(update(working)))
        order.append(started)
    assert order == [ev.DoTask(newer), ev.DoTask(older), ev.DoTask(VALIDATE)]


def test_a_newer_round_supersedes_an_older_one_that_is_queued() -> None:
    busy = task(9, session="busy")
    client = Story(ev.TaskReceived(busy), ev.TaskReceived(ONE), ev.TaskReceived(TWO))
    assert client.standing(ONE) is None
    assert client(ev.UpdateKept(update(busy)))[-1] == ev.DoTask(TWO)


def test_a_newer_round_does_not_supersede_an_older_one_at_work_or_held() -> None:
    client = Story(*WORKING, ev.TaskReceived(TWO))
    assert client(ev.UpdateKept(update(ONE))) == (OFFER, ev.DoTask(TWO))
    held = Story(*HOLDING, ev.TaskReceived(TWO))
    assert held.standing(ONE) is ev.Holding


def test_another_session_or_kind_supersedes_nothing() -> None:
    client = Story(ev.TaskReceived(ONE))
    client(ev.TaskReceived(task(7, session="t")))
    client(ev.TaskReceived(task(7, TaskKind.VALIDATE)))
    assert client.standing(ONE) is ev.Working


def test_the_queue_is_bounded_and_says_so() -> None:
    client = Story(ev.TaskReceived(task(session="busy")))
    waiting = [task(session=f"s{number}") for number in range(machine.MAX_QUEUED)]
    assert [client(ev.TaskReceived(t)) for t in waiting] == [()] * machine.MAX_QUEUED
    (refused,) = client(ev.TaskReceived(ONE))
    assert isinstance(refused, ev.SendFailure)
    assert "64 tasks" in refused.reason
    assert client(ev.TaskReceived(waiting[0])) == ()
    assert client.standing(ONE) is None


def test_a_held_update_of_an_older_base_survives_until_it_is_settled() -> None:
    stale = replace(update(ONE), base_model=digest_of(b"elsewhere"))
    client = Story(ev.UpdateKept(stale))
    assert client(ev.TaskReceived(TWO)) == (ev.DoTask(TWO),)
    assert client.standing(ONE) is ev.Offering


def test_work_that_is_dropped_while_another_task_waits_may_not_go_on() -> None:
    report = task(1, TaskKind.VALIDATE)
    client = Story(ev.TaskReceived(report), ev.TaskReceived(TWO))
    assert client(ev.TaskDropped(ev.key_of(report))) == (ev.StopWork(report), ev.HurryWork())


# --- what nobody waits for -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [TaskKind.VALIDATE, TaskKind.CHECK, TaskKind.PREDICT])
def test_work_that_is_dropped_is_stopped_but_a_training_goes_on(kind: TaskKind) -> None:
    report = task(1, kind)
    client = Story(ev.TaskReceived(report))
    assert client(ev.TaskDropped(ev.key_of(report))) == (ev.StopWork(report),)
    assert client(ev.TaskDropped(ev.key_of(report))) == ()
    assert client(ev.TaskReceived(TWO)) == (ev.HurryWork(),)
    training = Story(*WORKING)
    assert training(ev.TaskDropped(ev.key_of(ONE))) == ()
    assert training.standing(ONE) is ev.Working


def test_what_was_stopped_does_not_fail_the_task_that_was_asked_for_anew() -> None:
    client, key = Story(ev.TaskReceived(VALIDATE)), ev.key_of(VALIDATE)
    client(ev.TaskDropped(key))
    assert client(ev.TaskReceived(VALIDATE)) == (ev.HurryWork(),)
    assert client(ev.WorkFailed(key, "was cancelled", final=True)) == (ev.DoTask(VALIDATE),)
    assert client(ev.WorkFailed(key, "boom", final=True)) == (ev.SendFailure(key, "boom"),)


def test_a_settled_update_has_nothing_to_stop() -> None:
    assert Story(*OFFERING)(SETTLED) == (ev.ForgetUpdate(update(ONE)),)
    queued = Story(ev.TaskReceived(task(session="busy")), ev.TaskReceived(ONE))
    assert queued(SETTLED) == ()


# --- away ------------------------------------------------------------------------------------------

AWAY = ev.WentAway("paused")


def test_away_it_takes_nothing_new_and_says_why() -> None:
    waiting = task(1, session="waiting")
    client = Story(*WORKING, ev.TaskReceived(waiting))
    assert client(AWAY) == (ev.SendFailure(ev.key_of(waiting), "paused"),)
    assert client(ev.TaskReceived(TWO)) == (ev.SendFailure(ev.key_of(TWO), "paused"),)
    assert client(ev.TaskReceived(VALIDATE)) == (ev.SendFailure(ev.key_of(VALIDATE), "paused"),)
    assert client.standing(ONE) is ev.Working


def test_away_what_it_has_begun_is_finished_and_what_it_holds_is_settled() -> None:
    client = Story(*WORKING, AWAY)
    assert client(ev.TaskReceived(ONE)) == ()
    assert client(ev.UpdateKept(update(ONE))) == (OFFER,)
    assert client(granted(ONE)) == (ev.SendUpload(update(ONE), "g1", 0),)
    client(receipt(ONE))
    assert client(ev.TaskReceived(ONE)) == (OFFER,)
    assert client.state.under_way
    assert client(SETTLED) == (ev.ForgetUpdate(update(ONE)),)
    assert not client.state.under_way


def test_away_work_that_would_be_tried_again_has_failed() -> None:
    client, key = Story(*WORKING, AWAY), ev.key_of(ONE)
    assert client(ev.WorkFailed(key, "link broken", final=False)) == (ev.SendFailure(key, "paused"),)
    assert not client.state.under_way


def test_away_an_update_of_another_base_model_is_not_trained_anew() -> None:
    client, other = Story(*HOLDING, AWAY), task(1, model=b"other")
    told = (ev.ForgetUpdate(update(ONE)), ev.SendFailure(ev.key_of(ONE), "paused"))
    assert client(ev.TaskReceived(other)) == told
    assert not client.state.under_way


def test_what_is_given_up_is_stopped_and_its_result_dropped_but_what_is_held_stays() -> None:
    client = Story(*HOLDING, ev.TaskReceived(TWO), AWAY)
    assert client(ev.WorkGivenUp()) == (ev.SendFailure(ev.key_of(TWO), "paused"), ev.StopWork(TWO))
    assert client.standing(ONE) is ev.Holding
    assert client(ev.UpdateKept(update(TWO))) == (ev.ForgetUpdate(update(TWO)),)
    assert client.standing(TWO) is None


def test_back_again_it_works_and_offers_what_it_held() -> None:
    client = Story(*HOLDING, AWAY, ev.Detached(), ev.CameBack())
    assert client(ev.Attached()) == (OFFER,)
    assert client(ev.TaskReceived(TWO)) == (ev.DoTask(TWO),)

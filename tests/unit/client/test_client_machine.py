"""What a client does with its tasks, told as transcripts of events and commands."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fedn.client import machine as mc
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


def granted(of: Task, grant: str = "g1", offset: int = 0) -> mc.UploadGranted:
    return mc.UploadGranted(of.session, of.round, update(of).digest, grant, offset)


def receipt(of: Task) -> mc.ReceiptArrived:
    return mc.ReceiptArrived(of.session, of.round, update(of).digest)


ONE, TWO = task(1), task(2)
VALIDATE = task(1, TaskKind.VALIDATE)
OFFER, OFFER_TWO = (mc.SendOffer(update(of), 0) for of in (ONE, TWO))
SETTLED = mc.UpdateEnded(S, 1, "")


class Story:
    """A client that remembers its state; every call is one event and returns its commands."""

    def __init__(self, *events: mc.Event, attached: bool = True) -> None:
        self.state = mc.State(attached=attached)
        for event in events:
            self(event)

    def __call__(self, event: mc.Event) -> tuple[mc.Command, ...]:
        self.state, commands = mc.step(self.state, event)
        return commands

    def standing(self, of: Task) -> type[mc.TaskState] | None:
        found = self.state.tasks.get(mc.key_of(of))
        return None if found is None else type(found)


WORKING = (mc.TaskReceived(ONE),)
OFFERING = (*WORKING, mc.UpdateKept(update(ONE)))
UPLOADING = (*OFFERING, granted(ONE))
HOLDING = (*UPLOADING, receipt(ONE))
HELD = pytest.mark.parametrize(
    "before", [OFFERING, UPLOADING, HOLDING], ids=["offering", "uploading", "holding"]
)


# --- the ordinary way ------------------------------------------------------------------------------


def test_task_work_kept_offer_grant_upload_receipt_settled() -> None:
    client = Story(attached=False)
    assert client(mc.Attached()) == ()
    assert client(mc.TaskReceived(ONE)) == (mc.DoTask(ONE),)
    assert client(mc.UpdateKept(update(ONE))) == (OFFER,)
    assert client(granted(ONE, offset=7)) == (mc.SendUpload(update(ONE), "g1", 7),)
    assert client(receipt(ONE)) == ()
    assert client.standing(ONE) is mc.Holding
    assert client(SETTLED) == (mc.ForgetUpdate(update(ONE)),)
    assert client.state == mc.State(attached=True, over={S: 1})


def test_a_receipt_without_another_upload_is_enough() -> None:
    client = Story(*OFFERING)
    assert client(receipt(ONE)) == ()
    assert client.standing(ONE) is mc.Holding


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
    assert client(mc.TaskReceived(TWO)) == (mc.DoTask(TWO),)


def test_a_validation_reports_and_is_gone() -> None:
    client = Story()
    assert client(mc.TaskReceived(VALIDATE)) == (mc.DoTask(VALIDATE),)
    key = mc.key_of(VALIDATE)
    done = mc.ModelEvaluated(key, VALIDATE.model, 5, {"loss": 0.5})
    assert client(done) == (mc.SendReport(key, VALIDATE.model, 5, {"loss": 0.5}),)
    assert client.state == mc.State(attached=True)


# --- nobody trains twice ---------------------------------------------------------------------------


def test_the_same_task_again_while_it_is_queued_or_at_work_starts_nothing() -> None:
    client = Story(*WORKING)
    assert client(mc.TaskReceived(ONE)) == ()
    other = task(1, session="t")
    client(mc.TaskReceived(other))
    assert client(mc.TaskReceived(other)) == ()
    assert client(mc.UpdateKept(update(ONE))) == (OFFER, mc.DoTask(other))


@HELD
def test_the_same_task_again_with_its_update_held_is_an_offer(before: tuple[mc.Event, ...]) -> None:
    client = Story(*before)
    assert client(mc.TaskReceived(ONE)) == (OFFER,)
    assert client.standing(ONE) is mc.Offering


def test_an_upload_whose_part_has_closed_is_offered_to_the_next_part() -> None:
    """The bytes went out but no receipt came; the next part's task is all that the client hears."""
    client = Story(*UPLOADING)
    client(mc.TaskReceived(ONE))
    assert client(granted(ONE, "g2")) == (mc.SendUpload(update(ONE), "g2", 0),)


def test_an_update_recovered_from_the_journal_is_offered_not_trained_again() -> None:
    client = Story(mc.UpdateKept(update(ONE)), attached=False)
    assert client(mc.Attached()) == (OFFER,)
    assert client(mc.TaskReceived(ONE)) == (OFFER,)


def test_a_task_cancelled_and_asked_for_again_while_it_trains_is_trained_once() -> None:
    client = Story(*WORKING, mc.TaskDropped(mc.key_of(ONE)))
    assert client(mc.TaskReceived(ONE)) == ()
    assert client(mc.UpdateKept(update(ONE))) == (OFFER,)


@HELD
def test_only_another_base_model_makes_a_held_update_worthless(before: tuple[mc.Event, ...]) -> None:
    client = Story(*before)
    other = task(1, model=b"other")
    assert client(mc.TaskReceived(other)) == (mc.ForgetUpdate(update(ONE)), mc.DoTask(other))


# --- broken links ----------------------------------------------------------------------------------


@HELD
def test_everything_held_is_offered_on_every_attach(before: tuple[mc.Event, ...]) -> None:
    client = Story(*before)
    assert client(mc.Detached()) == ()
    assert client(mc.Attached()) == (OFFER,)
    assert client.standing(ONE) is mc.Offering


def test_several_held_updates_are_all_offered() -> None:
    client = Story(*HOLDING, mc.TaskReceived(TWO), mc.UpdateKept(update(TWO)), mc.Detached())
    assert client(mc.Attached()) == (OFFER, OFFER_TWO)


def test_training_goes_on_while_detached_and_is_offered_on_attach() -> None:
    client = Story(*WORKING, mc.Detached())
    assert client(mc.UpdateKept(update(ONE))) == ()
    assert client(mc.Attached()) == (OFFER,)


def test_queued_work_waits_for_a_link() -> None:
    client = Story(*WORKING, mc.TaskReceived(VALIDATE), mc.Detached())
    assert client(mc.UpdateKept(update(ONE))) == ()
    assert client(mc.Attached()) == (OFFER, mc.DoTask(VALIDATE))


def test_a_broken_upload_is_offered_again_a_little_later_each_time() -> None:
    client = Story(*UPLOADING)
    assert client(mc.UploadBroke(update(ONE), "g1")) == (mc.SendOffer(update(ONE), 1),)
    client(granted(ONE, "g2", offset=50))
    assert client(mc.UploadBroke(update(ONE), "g2")) == (mc.SendOffer(update(ONE), 2),)


def test_the_end_of_an_upload_that_was_replaced_changes_nothing() -> None:
    client = Story(*UPLOADING, mc.Detached(), mc.Attached(), granted(ONE, "g2"))
    assert client(mc.UploadBroke(update(ONE), "g1")) == ()
    assert client.standing(ONE) is mc.Uploading
    client(receipt(ONE))
    assert client(mc.UploadBroke(update(ONE), "g2")) == ()


def test_work_that_failed_with_its_link_waits_for_the_task_to_come_again() -> None:
    client = Story(*WORKING, mc.Detached())
    assert client(mc.WorkFailed(mc.key_of(ONE), "link broken", final=False)) == ()
    client(mc.Attached())
    assert client(mc.TaskReceived(ONE)) == (mc.DoTask(ONE),)


def test_work_that_fails_with_its_old_link_after_the_task_came_again_begins_anew() -> None:
    client = Story(*WORKING, mc.Detached(), mc.Attached())
    assert client(mc.TaskReceived(ONE)) == ()
    assert client(mc.WorkFailed(mc.key_of(ONE), "link broken", final=False)) == (mc.DoTask(ONE),)


def test_work_whose_fetch_broke_is_tried_again_while_attached() -> None:
    client = Story(*WORKING)
    assert client(mc.WorkFailed(mc.key_of(ONE), "link broken", final=False)) == (mc.DoTask(ONE),)
    client(mc.Detached())
    assert client(mc.WorkFailed(mc.key_of(ONE), "link broken", final=False)) == ()
    assert client.state == mc.State()


def test_a_second_grant_while_uploading_starts_no_second_upload() -> None:
    client = Story(*UPLOADING)
    assert client(granted(ONE, "g1", offset=10)) == ()


def test_a_grant_while_holding_means_that_the_sum_is_gone() -> None:
    client = Story(*HOLDING)
    assert client(granted(ONE, "g2")) == (mc.SendUpload(update(ONE), "g2", 0),)


@HELD
def test_asked_to_offer_again(before: tuple[mc.Event, ...]) -> None:
    client = Story(*before)
    assert client(mc.ReofferAsked(S, 1)) == (OFFER,)


def test_asked_to_offer_what_is_not_there() -> None:
    client = Story(*WORKING)
    assert client(mc.ReofferAsked(S, 1)) == ()
    assert client(mc.ReofferAsked(S, 2)) == ()
    assert client.standing(ONE) is mc.Working


# --- ends ------------------------------------------------------------------------------------------


@HELD
def test_settled_or_refused_is_forgotten_in_every_state(before: tuple[mc.Event, ...]) -> None:
    forgotten = (mc.ForgetUpdate(update(ONE)),)
    assert Story(*before)(SETTLED) == forgotten
    refused = Story(*before)
    assert refused(mc.UpdateEnded(S, 1, update(ONE).digest)) == forgotten
    assert refused(mc.UpdateEnded(S, 1, update(ONE).digest)) == ()


def test_a_refusal_or_grant_of_another_update_changes_nothing() -> None:
    client, other = Story(*OFFERING), digest_of(b"another")
    before = client.state
    assert client(mc.UpdateEnded(S, 1, other)) == ()
    assert client(mc.UploadGranted(S, 1, other, "g", 0)) == ()
    assert client(mc.ReceiptArrived(S, 1, other)) == ()
    assert client.state == before


def test_the_result_of_a_training_whose_round_was_settled_meanwhile_is_dropped() -> None:
    client = Story(*WORKING)
    assert client(SETTLED) == ()
    assert client.state.slot == mc.key_of(ONE)
    assert client(mc.UpdateKept(update(ONE))) == (mc.ForgetUpdate(update(ONE)),)
    assert client.state == mc.State(attached=True, over={S: 1})


def test_a_cancelled_training_is_finished_and_offered_for_the_round_may_ask_for_it_elsewhere() -> None:
    client = Story(*WORKING, mc.TaskDropped(mc.key_of(ONE)))
    assert client(mc.TaskReceived(TWO)) == ()
    assert client(mc.UpdateKept(update(ONE))) == (OFFER, mc.DoTask(TWO))


def test_a_cancelled_task_that_waits_is_gone() -> None:
    client = Story(mc.TaskReceived(task(session="busy")), mc.TaskReceived(ONE))
    assert client(mc.TaskDropped(mc.key_of(ONE))) == ()
    assert client.standing(ONE) is None


def test_a_late_task_of_a_round_that_is_over_is_refused_and_never_trained() -> None:
    over = (mc.SendFailure(mc.key_of(ONE), "round 1 is over for this client"),)
    assert Story(*HOLDING, SETTLED)(mc.TaskReceived(ONE)) == over
    refused = mc.UpdateEnded(S, 1, update(ONE).digest)
    assert Story(*OFFERING, refused)(mc.TaskReceived(ONE)) == over
    assert Story(mc.TaskReceived(TWO))(mc.TaskReceived(ONE)) == over
    assert Story(SETTLED)(mc.TaskReceived(TWO)) == (mc.DoTask(TWO),)


def test_how_far_sessions_are_over_is_remembered_for_a_bounded_number() -> None:
    client = Story(*(mc.UpdateEnded(SessionId(f"s{n}"), 1, "") for n in range(mc.MAX_SESSIONS + 1)))
    assert len(client.state.over) == mc.MAX_SESSIONS
    assert SessionId("s0") not in client.state.over


def test_a_model_that_is_gone_ends_its_task_without_a_word() -> None:
    client = Story(*WORKING)
    assert client(mc.ModelGone(mc.key_of(ONE))) == ()
    assert client(mc.TaskReceived(ONE)) == (mc.DoTask(ONE),)


@HELD
def test_cancelling_does_not_touch_a_held_update(before: tuple[mc.Event, ...]) -> None:
    client = Story(*before)
    at = client.state
    assert client(mc.TaskDropped(mc.key_of(ONE))) == ()
    assert client.state == at


def test_the_users_failure_is_told_once() -> None:
    client, key = Story(*WORKING), mc.key_of(ONE)
    assert client(mc.WorkFailed(key, "boom", final=True)) == (mc.SendFailure(key, "boom"),)
    assert client.state == mc.State(attached=True)


def test_the_metrics_of_cancelled_work_are_not_told() -> None:
    client, key = Story(mc.TaskReceived(VALIDATE)), mc.key_of(VALIDATE)
    client(mc.TaskDropped(key))
    assert client(mc.ModelEvaluated(key, VALIDATE.model, 5, {})) == ()


# --- the queue -------------------------------------------------------------------------------------


def test_training_goes_before_validation_and_newer_rounds_first() -> None:
    busy, older, newer = task(9, session="busy"), task(3, session="a"), task(4, session="b")
    client = Story(*(mc.TaskReceived(t) for t in (busy, VALIDATE, older, newer)))
    order = []
    for _ in range(3):
        (working,) = [t.task for t in client.state.tasks.values() if isinstance(t, mc.Working)]
        (*_, started) = client(mc.UpdateKept(update(working)))
        order.append(started)
    assert order == [mc.DoTask(newer), mc.DoTask(older), mc.DoTask(VALIDATE)]


def test_a_newer_round_supersedes_an_older_one_that_is_queued() -> None:
    busy = task(9, session="busy")
    client = Story(mc.TaskReceived(busy), mc.TaskReceived(ONE), mc.TaskReceived(TWO))
    assert client.standing(ONE) is None
    assert client(mc.UpdateKept(update(busy)))[-1] == mc.DoTask(TWO)


def test_a_newer_round_does_not_supersede_an_older_one_at_work_or_held() -> None:
    client = Story(*WORKING, mc.TaskReceived(TWO))
    assert client(mc.UpdateKept(update(ONE))) == (OFFER, mc.DoTask(TWO))
    held = Story(*HOLDING, mc.TaskReceived(TWO))
    assert held.standing(ONE) is mc.Holding


def test_another_session_or_kind_supersedes_nothing() -> None:
    client = Story(mc.TaskReceived(ONE))
    client(mc.TaskReceived(task(7, session="t")))
    client(mc.TaskReceived(task(7, TaskKind.VALIDATE)))
    assert client.standing(ONE) is mc.Working


def test_the_queue_is_bounded_and_says_so() -> None:
    client = Story(mc.TaskReceived(task(session="busy")))
    waiting = [task(session=f"s{number}") for number in range(mc.MAX_QUEUED)]
    assert [client(mc.TaskReceived(t)) for t in waiting] == [()] * mc.MAX_QUEUED
    (refused,) = client(mc.TaskReceived(ONE))
    assert isinstance(refused, mc.SendFailure)
    assert "64 tasks" in refused.reason
    assert client(mc.TaskReceived(waiting[0])) == ()
    assert client.standing(ONE) is None


def test_a_held_update_of_an_older_base_survives_until_it_is_settled() -> None:
    stale = replace(update(ONE), base_model=digest_of(b"elsewhere"))
    client = Story(mc.UpdateKept(stale))
    assert client(mc.TaskReceived(TWO)) == (mc.DoTask(TWO),)
    assert client.standing(ONE) is mc.Offering

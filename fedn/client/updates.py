"""One training, timed, as the update that goes into the journal. Called in the user code's own thread."""

from __future__ import annotations

import time

from fedn.domain import messages as m
from fedn.domain.ids import ClientId, digest_of
from fedn.domain.update import UpdateHeader, finite_metrics, timed
from fedn.ports import Trainer


def trained_update(
    trainer: Trainer, client: ClientId, model: memoryview, task: m.Task, package: memoryview | None
) -> tuple[UpdateHeader, bytes]:
    """The header and file of what ``trainer`` makes of ``model``. Raises what it does, and InvalidInput."""
    began = time.monotonic()
    trained = trainer.train(model, task, package)
    metrics = timed(trained.metrics, time.monotonic() - began)
    header = UpdateHeader(
        task.session, task.round, client, task.model, trained.examples, len(trained.file),
        digest_of(trained.file), trained.layout, finite_metrics(metrics),
    )  # fmt: skip
    return header, trained.file

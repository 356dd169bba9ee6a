"""Sessions as TensorBoard event files, written by tensorboardX: a folder for each session.

Of that library only the part that writes records is used, which starts no threads; it needs no torch, but
loads it where it is installed.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from fedn.observers.story import BEGUN, ENDED, EVENTS, KINDS, LAST, library, numbers, settings
from fedn.ports import Observed
from fedn.stores.disk import disk_errors, make_directory

NAME = "tensorboard"
SCALARS = {f"{kind}/{LAST}": event for event, kind in KINDS.items()}
LENGTH, CHECKSUM = struct.Struct("<Q"), 4
"""A record is its length, a checksum of that, its bytes, and a checksum of these."""


class TensorBoard:
    """Implements `fedn.ports.Exporter`. Scalars train/… and validate/… by round; the plan and how it ended
    as texts.
    """

    events = EVENTS

    def __init__(self, location: str) -> None:
        """``location`` is a folder; made if missing. Raises InvalidInput without tensorboardX."""
        self._files = library("tensorboardX.event_file_writer", NAME)
        self._summaries = library("tensorboardX.summary", NAME)
        self._proto = library("tensorboardX.proto.event_pb2", NAME)
        self._root = Path(location).absolute()
        self._writers: dict[str, Any] = {}
        make_directory(self._root)

    def observe(self, observed: Observed) -> None:
        """Write what one event brings, and see that it can be read."""
        event, fields = observed.event, observed.fields
        session = str(fields["session"])
        if event in BEGUN and session not in self._writers:
            self._writers[session] = self._open(session)
        # What comes behind a session's end, such as a late validation, gets a small file of its own.
        writer = self._writers.get(session) or self._open(session)
        with disk_errors(self._root):
            self._write(writer, event, fields)
            writer.flush()
        if event in ENDED or session not in self._writers:
            self._writers.pop(session, None)
            writer.close()

    def told(self, session: str) -> Collection[tuple[str, int]]:
        """Implements `fedn.ports.Remembering`: what its files hold, but for a last record that is cut off."""
        with disk_errors(self._root):
            files = sorted((self._root / session).glob("*tfevents*"))
            return {found for file in files for found in self._meant(file.read_bytes())}

    def _meant(self, data: bytes) -> Iterator[tuple[str, int]]:
        for record in _records(data):
            event = self._proto.Event.FromString(record)
            for value in event.summary.value:
                if value.tag in SCALARS:
                    yield SCALARS[value.tag], event.step
                elif value.tag == "plan/text_summary":
                    yield "session_started", 0
                elif value.tag == "best/text_summary":
                    yield "best_model", event.step
                elif value.tag == "outcome/text_summary":
                    yield f"session_{value.tensor.string_val[0].decode().partition(' ')[0]}", 0

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()

    def _open(self, session: str) -> Any:
        """A file of its own: TensorBoard reads a folder's files in the order of their names."""
        folder = self._root / session
        make_directory(folder)
        return self._files.EventsWriter(os.fspath(folder / "events"), f".{time.time_ns()}")

    def _write(self, writer: Any, event: str, fields: Mapping[str, Any]) -> None:
        if event in ("round_committed", "round_validated"):
            for name, value in numbers(event, fields).items():
                self._put(writer, self._summaries.scalar(name, value), fields["round"])
        elif event == "session_started":
            text = "\n".join(f"    {name}: {value}" for name, value in settings(fields["plan"]).items())
            self._put(writer, self._summaries.text("plan", text), 0)
        elif event == "best_model":
            text = f"round {fields['round']}, {fields['metric']} {fields['value']:g}, model {fields['model']}"
            self._put(writer, self._summaries.text("best", text), fields["round"])
        elif event in ENDED:
            text = f"{event.removeprefix('session_')} {fields['reason']}".strip()
            self._put(writer, self._summaries.text("outcome", text), 0)

    def _put(self, writer: Any, summary: Any, step: int) -> None:
        writer.write_event(self._proto.Event(wall_time=time.time(), step=step, summary=summary))


def _records(data: bytes) -> Iterator[bytes]:
    """The whole records of an event file."""
    at = 0
    while at + LENGTH.size <= len(data):
        (length,) = LENGTH.unpack_from(data, at)
        at += LENGTH.size + CHECKSUM
        if at + length + CHECKSUM > len(data):
            return
        yield data[at : at + length]
        at += length + CHECKSUM

"""Log lines: one form for all tiers, on stderr, so that stdout stays free for answers.

``time level component message key=value…``; session, round, combiner and client come first among
the keys. They are given where something is logged: ``log.info("sealed", extra={"round": 3})``. The
secret of a join token and the signature of a store's address are blotted out wherever one turns up; every
line of an insecure process says so.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import traceback
from collections import deque
from datetime import UTC, datetime
from typing import Any, Self, TextIO

from fedn.domain.hosts import MAX_LINES, known_lines
from fedn.domain.messages import LogLine

CONTEXT = ("session", "round", "combiner", "client")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
_TOKEN = re.compile(r"(fedn1\.[0-9a-f]{64}\.[0-9a-f]{16}\.)[A-Za-z0-9_-]+")
_SIGNATURE = re.compile(r"(X-Amz-(?:Signature|Security-Token)=)[^&\s\"'<>]+", re.IGNORECASE)


def configure(
    component: str,
    level: str = "info",
    as_json: bool = False,
    stream: TextIO | None = None,
    insecure: bool = False,
) -> None:
    """Send the log of this process to stderr (or ``stream``); replaces what was set up before."""
    handler = logging.StreamHandler(stream or sys.stderr)
    shown = f"{component}(INSECURE)" if insecure else component
    handler.setFormatter(JsonLines(shown) if as_json else PlainLines(shown))
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    for chatty in ("httpx", "httpcore", "urllib3", "asyncio", "werkzeug"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))


def warn_insecure(component: str, host: str) -> None:
    """Say loudly, at the head of the log, that this process can be reached by anybody."""
    logging.getLogger(f"fedn.{component}").warning(
        "INSECURE: listening on %s without encryption or login (--insecure-no-tls-no-auth). Anybody who "
        "reaches this port can train, stop and read models. Use it on a closed network only.",
        host or "every address",
    )


def warn_plain(component: str, reducer: str) -> None:
    """Say loudly, at the head of the log, that this process speaks plainly with other machines."""
    logging.getLogger(f"fedn.{component}").warning(
        "INSECURE: speaking with %s and its network without encryption or login (--insecure-no-tls-no-auth). "
        "Whoever is on the way can read and change everything, and be the network. Use it on a closed "
        "network only.",
        reducer,
    )


def tell_plain(component: str, host: str) -> None:
    """Say once, at the head of the log, that nobody is asked who they are, as only this machine is let in."""
    logging.getLogger(f"fedn.{component}").info(
        "plain on %s: no encryption and no login, this machine alone; `fedn network init` makes an identity",
        host,
    )


def context_of(record: logging.LogRecord) -> dict[str, Any]:
    """The fields given with ``extra``, session, round, combiner and client first."""
    extra = {key: value for key, value in vars(record).items() if key not in _STANDARD}
    first = {key: extra.pop(key) for key in CONTEXT if key in extra}
    return first | dict(sorted(extra.items()))


class Kept(logging.Handler):
    """The last lines of fedn's own log, in memory, to be shown elsewhere: no tracebacks, nobody else's lines.

    Attached inside the block; safe to read from any thread.
    """

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._lines: deque[LogLine] = deque(maxlen=MAX_LINES)
        self._fresh = 0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            fields = "".join(f" {key}={_plain(value)}" for key, value in context_of(record).items())
            text = _blotted(_one_line(record.getMessage()) + fields)
        except Exception:  # as every handler does: a line that can't be made is no reason to fail
            self.handleError(record)
            return
        self._lines.append(LogLine(record.created, record.levelname.lower(), text))
        self._fresh = min(self._fresh + 1, MAX_LINES)

    def all(self) -> tuple[LogLine, ...]:
        """What there is, oldest first."""
        with self._locked():
            return known_lines(tuple(self._lines))

    def fresh(self) -> tuple[LogLine, ...]:
        """What has come since the last time that this was asked."""
        with self._locked():
            lines = tuple(self._lines)[len(self._lines) - self._fresh :]
            self._fresh = 0
        return known_lines(lines)

    def _locked(self) -> Any:
        assert self.lock is not None
        return self.lock

    def __enter__(self) -> Self:
        logging.getLogger("fedn").addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("fedn").removeHandler(self)


class PlainLines(logging.Formatter):
    """For people. Values from outside can't break out of their line."""

    def __init__(self, component: str) -> None:
        super().__init__()
        self._component = component

    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {key}={_plain(value)}" for key, value in context_of(record).items())
        message = _one_line(record.getMessage())
        line = f"{_time(record)} {record.levelname:<7} {self._component} {message}{fields}"
        return _blotted(line + _trouble(record))


class JsonLines(logging.Formatter):
    """For machines: one object per line."""

    def __init__(self, component: str) -> None:
        super().__init__()
        self._component = component

    def format(self, record: logging.LogRecord) -> str:
        line = {"time": _time(record), "level": record.levelname.lower(), "component": self._component}
        line |= {"message": record.getMessage(), "logger": record.name} | context_of(record)
        if record.exc_info:
            line["exception"] = _trouble(record).strip()
        return _blotted(json.dumps(line, default=str))


def _blotted(line: str) -> str:
    """Without the secret of any token in it, or what makes an address of a store a right to read."""
    line = _TOKEN.sub(r"\1***", line) if "fedn1." in line else line
    return _SIGNATURE.sub(r"\1***", line)


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _one_line(text: str) -> str:
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _plain(value: object) -> str:
    text = str(value)
    return text if text and text.isprintable() and not set(text) & set(' "=') else json.dumps(text)


def _trouble(record: logging.LogRecord) -> str:
    if not record.exc_info or record.exc_info[0] is None:
        return ""
    return "\n" + "".join(traceback.format_exception(*record.exc_info)).rstrip()

"""Log lines: their form, their context, and that nothing from outside breaks out of one."""

from __future__ import annotations

import io
import json
import logging

import pytest

from fedn import logs
from fedn.domain.hosts import MAX_LINES
from fedn.logs import Kept


@pytest.fixture
def root_logger():
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield root
    root.handlers[:], level = before[0], before[1]
    root.setLevel(level)


def test_a_line_names_component_message_and_context_in_order(root_logger):
    stream = io.StringIO()
    logs.configure("combiner", stream=stream)
    logging.getLogger("fedn.x").info(
        "folded %d", 3, extra={"client": "a b", "zeta": 1, "session": "s", "round": 2}
    )
    line = stream.getvalue()
    assert line.endswith('Z INFO    combiner folded 3 session=s round=2 client="a b" zeta=1\n')


def test_text_from_outside_stays_on_its_line(root_logger):
    stream = io.StringIO()
    logs.configure("reducer", stream=stream)
    logging.getLogger("x").warning("name\nERROR forged", extra={"client": "c\n\x1b[2J"})
    assert stream.getvalue().count("\n") == 1
    assert "\x1b" not in stream.getvalue()


def test_json_lines_hold_context_and_exception(root_logger):
    stream = io.StringIO()
    logs.configure("client", level="debug", as_json=True, stream=stream)
    try:
        raise ValueError("no")
    except ValueError:
        logging.getLogger("x").exception("failed", extra={"round": 4})
    line = json.loads(stream.getvalue())
    assert (line["level"], line["component"], line["message"], line["round"]) == (
        "error",
        "client",
        "failed",
        4,
    )
    assert "ValueError: no" in line["exception"]


def test_a_level_hides_what_is_less(root_logger):
    stream = io.StringIO()
    logs.configure("reducer", level="warning", stream=stream)
    logging.getLogger("x").info("quiet")
    logs.warn_insecure("reducer", "0.0.0.0")
    logs.warn_plain("client", "http://10.0.0.5:8090")
    assert "INSECURE: listening on 0.0.0.0" in stream.getvalue()
    assert "INSECURE: speaking with http://10.0.0.5:8090" in stream.getvalue()
    assert "quiet" not in stream.getvalue()


@pytest.mark.parametrize("as_json", [False, True])
def test_every_line_of_an_insecure_process_says_so(root_logger, as_json):
    stream = io.StringIO()
    logs.configure("reducer", as_json=as_json, stream=stream, insecure=True)
    logging.getLogger("x").info("one")
    logging.getLogger("y").info("two")
    assert all("INSECURE" in line for line in stream.getvalue().splitlines())
    logs.configure("reducer", as_json=as_json, stream=stream)
    logging.getLogger("x").info("three")
    assert "INSECURE" not in stream.getvalue().splitlines()[-1]


@pytest.mark.parametrize("as_json", [False, True])
def test_the_secret_of_a_token_is_blotted_out(root_logger, as_json):
    stream = io.StringIO()
    logs.configure("client", as_json=as_json, stream=stream)
    token = f"fedn1.{'a' * 64}.{'b' * 16}.{'Z' * 43}"
    try:
        raise ValueError(token)
    except ValueError:
        logging.getLogger("x").exception("failed with %s", token, extra={"client": token})
    assert "Z" * 43 not in stream.getvalue()
    assert stream.getvalue().count("b" * 16 + ".***") >= 3


@pytest.mark.parametrize("as_json", [False, True])
def test_what_makes_an_address_a_right_to_read_is_blotted_out(root_logger, as_json):
    stream = io.StringIO()
    logs.configure("combiner", as_json=as_json, stream=stream)
    address = "https://store/model?X-Amz-Expires=300&X-Amz-Signature=0123abcd&x-amz-security-token=ef45%2F"
    logging.getLogger("x").warning("at '%s'", address, extra={"client": address})
    assert "X-Amz-Expires=300&X-Amz-Signature=***" in stream.getvalue()
    assert "0123abcd" not in stream.getvalue()
    assert "ef45" not in stream.getvalue()


def test_fedns_own_last_lines_are_kept_without_secrets_tracebacks_or_others_lines() -> None:
    logging.getLogger("fedn").setLevel(logging.INFO)
    try:
        with Kept() as kept:
            log = logging.getLogger("fedn.combiner")
            try:
                raise ValueError("patient 17")
            except ValueError:
                log.exception("train() failed", extra={"round": 3})
            log.debug("unseen")
            log.info("a token: fedn1.%s.%s.%s", "0" * 64, "1" * 16, "SECRET")
            logging.getLogger("users.code").error("patient 18")
            assert [(line.level, line.text) for line in kept.all()] == [
                ("error", "train() failed round=3"),
                ("info", f"a token: fedn1.{'0' * 64}.{'1' * 16}.***"),
            ]
            assert kept.fresh() == kept.all()
            assert kept.fresh() == ()
            for number in range(MAX_LINES + 1):
                log.info("line %d", number)
            assert [line.text for line in kept.fresh()] == [f"line {n}" for n in range(1, MAX_LINES + 1)]
        log.info("afterwards")
        assert kept.fresh() == ()
    finally:
        logging.getLogger("fedn").setLevel(logging.NOTSET)

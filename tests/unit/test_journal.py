"""What a node logs: the form, the level, and that nothing secret leaves through it."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from node.cli.journal import open_journal, without_secrets
from node.config import Settings

TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl"


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Leave logging to the other tests as it was."""
    root = logging.getLogger()
    handlers = root.handlers[:]
    levels = {name: logging.getLogger(name).level for name in ("", "aiormq", "aio_pika")}
    yield
    root.handlers[:] = handlers
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    structlog.reset_defaults()


def logged(settings: Settings) -> tuple[structlog.typing.FilteringBoundLogger, io.StringIO]:
    """A logger of a node with these settings, and where it writes."""
    stream = io.StringIO()
    open_journal(settings, stream)
    return structlog.get_logger(), stream


def test_without_a_terminal_each_line_is_an_object() -> None:
    """JSON with the event, its fields, the node, the level and the time."""
    log, stream = logged(Settings(node_id="n7"))
    log.info("ready", events=5, where=None)
    (line,) = stream.getvalue().splitlines()
    entry = json.loads(line)
    assert entry.pop("timestamp").endswith("Z")
    assert entry == {"event": "ready", "events": 5, "where": None, "node": "n7", "level": "info"}


def test_lines_for_people_when_asked() -> None:
    """`text` needs no terminal, and has no colours without one."""
    log, stream = logged(Settings(log_format="text"))
    log.warning("slow", user="ann")
    assert "slow" in stream.getvalue()
    assert "user=ann" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


def test_nothing_below_the_level_is_written() -> None:
    """`log_level` holds for the node; its libraries speak from warnings on."""
    log, stream = logged(Settings(log_level="warning"))
    log.info("not this")
    logging.getLogger("uvicorn.error").info("nor this")
    log.error("this")
    logging.getLogger("uvicorn.error").warning("and this")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["this", "and this"]


@pytest.mark.parametrize("settings", [Settings(), Settings(log_format="text")])
def test_secrets_do_not_leave(settings: Settings) -> None:
    """Neither by a field's name, nor inside a text, nor in an exception, nor from a library."""
    log, stream = logged(settings)
    log.info(
        "refused", token="hunter2", jwt_secret="hunter2", url=f"/socket.io/?EIO=4&token={TOKEN}&x=1", headers={"Cookie": TOKEN}
    )
    log.info("asked", said=f"Bearer {TOKEN}")
    try:
        raise ValueError(f"bad token {TOKEN} from amqp://user:hunter2@host/")
    except ValueError:
        log.exception("failed")
    logging.getLogger("lib").warning("GET %s", f"/?ticket={TOKEN}")
    assert stream.getvalue().count("redacted") >= 4
    assert "hunter2" not in stream.getvalue()
    assert TOKEN.split(".")[1] not in stream.getvalue()


@pytest.mark.parametrize("text", ["10:30 all well", "the token has expired", "http://127.0.0.1:8001/?EIO=4", "a ticket, please"])
def test_what_is_no_secret_stays(text: str) -> None:
    """Words about tokens are no tokens."""
    assert without_secrets(text) == text


def test_a_reader_that_is_gone_does_not_stop_a_node() -> None:
    """A closed pipe swallows the lines."""

    class Gone(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError

    open_journal(Settings(), Gone())
    structlog.get_logger().info("nobody hears this")
    logging.getLogger("lib").warning("nor this")

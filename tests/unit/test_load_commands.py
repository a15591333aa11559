"""Who hears the answer to a command of the load test's client: on a socket pair, as its link has one."""

import random
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from gevent import socket as gevent_socket
from websockets.client import ClientProtocol
from websockets.protocol import State
from websockets.uri import WebSocketURI

from loadtest import wire
from loadtest.commands import Commands
from loadtest.link import Gone, Link


@contextmanager
def linked() -> Iterator[Link]:
    """A link that is open; nobody reads what it sends."""
    ours, theirs = socket.socketpair()
    protocol = ClientProtocol(WebSocketURI(False, "n", 80, "/", "", None), state=State.OPEN)
    link = Link(gevent_socket.socket(fileno=ours.detach()), protocol, b"")
    try:
        yield link
    finally:
        link.close()
        theirs.close()


def answered(number: int) -> wire.Acked:
    return wire.Acked(number, wire.Answer(ok=True, seq=number))


def heard_of(play: Callable[[Commands, Link, Callable[[wire.Answer], None]], Any]) -> list[int]:
    """The numbers that answers bore in this play."""

    def work() -> list[int]:
        heard = list[int]()
        with linked() as link:
            play(Commands(random.Random(1).random), link, lambda answer: heard.append(answer.seq))
        return heard

    with ThreadPoolExecutor(1) as pool:  # an event loop of gevent's belongs to a thread
        return pool.submit(work).result()


def test_each_answer_is_heard_once_by_who_asked() -> None:
    """Whatever the order in which they come; those that come twice or that nobody asked for are passed over."""

    def play(commands: Commands, link: Link, heard: Callable[[wire.Answer], None]) -> None:
        commands.link = link
        commands.give("read", {}, heard)
        commands.give("read", {}, heard)
        for number in (2, 1, 2, 7):
            commands.answered(answered(number))

    assert heard_of(play) == [2, 1]


def test_nobody_hears_over_one_connection_what_was_asked_over_another() -> None:
    """Numbers go on, so that none is borne twice; without a connection nothing can be asked."""

    def play(commands: Commands, link: Link, heard: Callable[[wire.Answer], None]) -> None:
        commands.link = link
        commands.give("read", {}, heard)
        commands.forget()
        with pytest.raises(Gone):
            commands.give("read", {}, heard)
        commands.link = link
        commands.give("read", {}, heard)
        for number in (1, 2):
            commands.answered(answered(number))

    assert heard_of(play) == [2]

"""The page on `tidegate up --haproxy`: one address for all nodes, from which it never goes away."""

import os
import re
import signal
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import MeetPerson, Shoot
from tests.browser.person import PATIENCE_MS
from tests.support.up import START_S, Up
from tests.support.wait import block_until

pytestmark = [pytest.mark.haproxy, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """The cluster."""
    folder = tmp_path_factory.mktemp("up")
    with Up(folder, "--haproxy", "--data", folder / "data") as up:
        up.wait_ready(4)
        yield up


def test_one_chats_through_it_whatever_dies(up: Up, meet: MeetPerson, shoot: Shoot) -> None:
    """Under any name of its address, and beside who came to a node itself; a killed node and a killed proxy cost nobody a message."""
    front = up.urls["haproxy"]
    ann, bob = meet("ann").sign_in(front), meet("bob").sign_in(front.replace("127.0.0.1", "localhost"))
    cleo = meet("cleo").sign_in(up.urls["n1"])
    everybody = (ann, bob, cleo)
    for person in everybody:
        person.may_lose_nodes = True
    ann.create("Lock")
    bob.join("Lock")
    cleo.join("Lock")
    ann.say("Through the gate")
    for person in everybody:
        person.sees("Through the gate")

    os.kill(up.pids()[ann.node], signal.SIGKILL)
    ann.strip_says(re.compile(r"^Back on n\d"))
    os.kill(up.pids()["haproxy"], signal.SIGKILL)
    block_until(lambda: f"haproxy is ready again at {front}" in up.output, START_S, "the proxy is started again")
    for number, person in enumerate(everybody):
        person.say(f"Still here {number}")
    for person in everybody:
        for number in range(3):
            person.sees(f"Still here {number}")
        expect(person.page.locator(".pending")).to_have_count(0, timeout=PATIENCE_MS)
    ann.journal_says(re.compile(r"Back on n\d"))
    shown = ann.page.locator(".nodes a")
    expect(shown).to_have_count(1)
    expect(shown).to_contain_text(front.removeprefix("http://"))
    shoot(ann.page, "behind-haproxy")

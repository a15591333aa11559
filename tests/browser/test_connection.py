"""What the page does when its node dies under it, when its token is renewed, and when it ends."""

import re
import signal
from collections.abc import Iterator
from itertools import pairwise

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import MeetPerson, Shoot, three_nodes
from tests.browser.person import PATIENCE_MS, Person
from tests.support.nodes import Cluster
from tests.support.tokens import token
from tests.support.wait import block_until

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def own_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three nodes for one test, which may kill them."""
    with three_nodes(tmp_path_factory.mktemp("page")) as cluster:
        yield cluster


def test_a_node_is_killed_under_a_user_who_misses_nothing(own_cluster: Cluster, meet: MeetPerson, shoot: Shoot) -> None:
    """`kill -9` of a node: its user goes on at another one, is told what was missed, and what was being sent arrives once."""
    first, second, _ = own_cluster
    ann, bob = meet("ann").sign_in(first.url), meet("bob").sign_in(second.url)
    ann.may_lose_nodes = bob.may_lose_nodes = True
    ann.create("Breakwater")
    bob.join("Breakwater")
    ann.say("Before the storm")
    bob.sees("Before the storm")
    first.signal(signal.SIGSTOP)  # it answers nobody any more, and what happens now cannot reach its users
    said = [f"wave {number}" for number in range(1, 13)]
    for text in said:
        bob.say(text)
    bob.sees(said[-1])
    expect(bob.page.locator(".pending")).to_have_count(0, timeout=PATIENCE_MS)
    ann.say("Do you read me?")
    expect(ann.page.locator(".pending")).to_have_count(1)
    assert ann.texts() == ["Before the storm"]
    first.kill()
    ann.strip_says("12 missed, caught up")
    assert ann.node in ("n2", "n3")
    shoot(ann.page, "caught-up")
    ann.sees("Do you read me?")
    expect(ann.page.locator(".pending")).to_have_count(0)
    bob.sees("Do you read me?")
    everything = ["Before the storm", *said, "Do you read me?"]
    assert ann.texts() == everything
    assert bob.texts() == everything
    ann.journal_says("Lost n1")
    first.start()
    first.wait_ready()
    late = meet("late").sign_in(first.url)
    late.join("Breakwater")
    late.sees("Do you read me?")
    assert late.texts() == everything


def test_all_nodes_are_killed_and_the_page_waits_for_them(own_cluster: Cluster, meet: MeetPerson, shoot: Shoot) -> None:
    """With nobody there the page says so once, keeps trying and keeps what one writes; once nodes are back, all of it arrives, once."""
    ann, bob = meet("ann").sign_in(own_cluster[0].url), meet("bob").sign_in(own_cluster[1].url)
    ann.may_lose_nodes = bob.may_lose_nodes = True
    ann.create("Low water")
    bob.join("Low water")
    ann.say("Before")
    bob.sees("Before")
    for node in own_cluster:
        node.kill()
    members = ann.page.locator(".room-head p")
    ann.strip_says(re.compile(r"^No node answers. Trying again in \d+ s"))
    expect(members).to_have_text("2 members")
    for number in range(3):
        ann.say(f"into the dark {number}")
    expect(ann.page.locator(".pending")).to_have_count(3)
    ann.journal_says("No node answers")
    shoot(ann.page, "nobody-there")
    own_cluster.start()
    expect(ann.page.locator(".pending")).to_have_count(0, timeout=40_000)
    bob.sees("into the dark 2")
    expect(members).to_have_text("2 members, 2 online", timeout=PATIENCE_MS)
    assert ann.page.get_by_test_id("journal").inner_text().count("No node answers") == 1
    everything = ["Before", *(f"into the dark {number}" for number in range(3))]
    assert ann.texts() == everything
    assert bob.texts() == everything


def test_a_user_moves_to_another_node_and_leaves_one_that_drains(own_cluster: Cluster, meet: MeetPerson) -> None:
    """The list of nodes moves the page in place; a node that is asked to stop hands its user on."""
    ann = meet("mia").sign_in(own_cluster[0].url)
    ann.may_lose_nodes = True
    ann.create("Lock")
    ann.say("one")
    ann.journal_says("On n1")
    ann.page.get_by_role("link", name=f"n2 · {own_cluster[1].url.removeprefix('http://')}").click()
    ann.is_on("n2")
    ann.strip_says("nothing missed")
    ann.say("two")
    ann.sees("two")
    own_cluster[1].terminate()
    ann.journal_says("n2 is shutting down")
    block_until(lambda: ann.node in ("n1", "n3"), PATIENCE_MS / 1_000, "another node")
    assert own_cluster[1].wait_ended() == 0
    ann.say("three")
    ann.sees("three")
    assert ann.texts() == ["one", "two", "three"]


def test_a_token_is_renewed_in_place(cluster: Cluster, meet: MeetPerson) -> None:
    """The countdown starts over with each renewal, and the connection stays."""
    ann, bob = meet("renate").sign_in(cluster[0].url, "?ttl=6"), meet("bea").sign_in(cluster[1].url)
    ann.create("Evergreen")
    bob.join("Evergreen")
    watch(ann.page)
    ann.journal_says(re.compile("Token renewed in place.*Token renewed in place", re.DOTALL))
    shown = ann.evaluate("window.shown")
    assert any(later > earlier for earlier, later in pairwise(shown)), shown
    assert min(shown) > 0, shown
    journal = ann.page.get_by_test_id("journal").inner_text()
    assert journal.count("On n1") == 1
    assert "ended" not in journal
    bob.say("Still there?")
    ann.sees("Still there?")


def watch(page: Page) -> None:
    """Keep what the countdown shows, in seconds, in `window.shown`."""
    page.evaluate(
        """() => {
          window.shown = [];
          const look = () => {
            const [minutes, seconds] = document.querySelector("[data-test=countdown]").textContent.split(":").map(Number);
            const left = 60 * minutes + seconds;
            if (left !== window.shown.at(-1)) window.shown.push(left);
          };
          look();
          new MutationObserver(look).observe(document.body, { subtree: true, childList: true, characterData: true });
        }"""
    )


def test_a_token_ends_and_its_user_returns(cluster: Cluster, meet: MeetPerson) -> None:
    """Without renewal each end of a token ends the connection; the page comes back by itself, and nothing is missed or doubled."""
    ann, bob = meet("elsa").sign_in(cluster[0].url, "?ttl=4&renew=0"), meet("olaf").sign_in(cluster[1].url)
    ann.create("Ebb")
    bob.join("Ebb")
    said: list[str] = []

    def said_and_back_twice() -> bool:
        said.append(f"drop {len(said) + 1}")
        bob.say(said[-1])
        bob.sees(said[-1])
        return ann.page.locator(".entry", has_text="Back on").count() >= 2

    ann.journal_says("On n1")
    block_until(said_and_back_twice, 40, "two returns")
    ann.sees(said[-1])
    assert ann.texts() == said
    ann.journal_says("The token ended, and the connection with it")
    ann.journal_says(re.compile(r"Back on n1 after \d+\.\d s: (nothing missed|\d+ missed, caught up)"))
    ann.say("I am back")
    bob.sees("I am back")


def test_a_pasted_token_asks_for_another_when_it_ends(cluster: Cluster, meet: MeetPerson, shoot: Shoot) -> None:
    """A token that cannot be renewed by the page is asked for in time; a wrong one and one that has ended are refused with the reason."""
    ann = meet("pat")
    ann.page.add_init_script("window.requestAnimationFrame = () => 0")  # as in a tab in the background: effects run late
    ann.page.goto(cluster[0].url)
    ann.page.get_by_role("button", name="Use a token instead").click()
    ann.page.get_by_label("Token", exact=True).fill("not a token")
    ann.page.get_by_role("button", name="Come in").click()
    dialog = ann.page.get_by_role("dialog")
    expect(dialog).to_contain_text("This token was not accepted: ", timeout=PATIENCE_MS)
    dialog.get_by_label("Token", exact=True).fill(token("pat", ttl=-60))
    dialog.get_by_role("button", name="Go on").click()
    expect(dialog).to_contain_text("This token has ended. Paste a fresh one.", timeout=PATIENCE_MS)
    expect(ann.page.get_by_test_id("strip")).to_have_count(0)
    shoot(ann.page, "token-ended")
    dialog.get_by_label("Token", exact=True).fill(issue(ann, cluster, ttl=8))
    dialog.get_by_role("button", name="Go on").click()
    ann.is_on("n1")
    expect(dialog).to_have_count(0)
    expect(dialog).to_contain_text("This token ends soon. Paste a fresh one.", timeout=PATIENCE_MS)
    assert ann.node == "n1"  # the connection stays until the token ends
    dialog.get_by_label("Token", exact=True).fill(issue(ann, cluster, ttl=60))
    dialog.get_by_role("button", name="Go on").click()
    expect(dialog).to_have_count(0)
    ann.journal_says("Token renewed in place")


def issue(person: Person, cluster: Cluster, *, ttl: int) -> str:
    """A token of the dev issuer."""
    answer = person.page.request.post(f"{cluster[0].url}/dev/token", data={"user": person.name, "ttl": ttl})
    return str(answer.json()["token"])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_looks_like_this(cluster: Cluster, meet: MeetPerson, shoot: Shoot, scheme: str) -> None:
    """The pictures of the page: a conversation that has everything in it, at the door, with people and with the connection."""
    title = {"light": "Harbour office", "dark": "Night watch"}[scheme]
    ann = meet("Ann", color_scheme=scheme)
    ann.page.goto(cluster[0].url)
    expect(ann.page.get_by_label("Your name")).to_be_focused()
    shoot(ann.page, f"door-{scheme}")
    ann.sign_in(cluster[0].url)
    bob = meet("Bob Maas", color_scheme=scheme).sign_in(cluster[1].url)
    cleo = meet("Cleo", color_scheme=scheme).sign_in(cluster[2].url)
    for other in ("Pilots", "Tide tables"):
        ann.create(f"{other} ({scheme})" if scheme == "dark" else other)
    ann.create(title)
    for guest in (bob, cleo):
        guest.join(title)
    talk = [
        (bob, "Morning. High water is 06:40, the gate opens at six."),
        (ann, "Thanks. Node 1 goes down for its update at seven, does anyone mind?"),
        (cleo, "Not at all: last time I only noticed because the page said so."),
        (cleo, "“14 missed, caught up.” And there they were."),
        (bob, "The table for the week: https://example.org/tides/week-48"),
    ]
    for who, text in talk:
        who.say(text)
        for person in (ann, bob, cleo):
            person.sees(text)
    cleo.do(talk[1][1], "React")
    cleo.page.get_by_role("group", name="Reactions").get_by_role("button", name="❤️").click()
    bob.do(talk[3][1], "React")
    bob.page.get_by_role("group", name="Reactions").get_by_role("button", name="😂").click()
    ann.do(talk[4][1], "Reply")
    ann.page.keyboard.type("Printed and on the wall, next to the kettle.")
    ann.page.keyboard.press("Enter")
    cleo.sees("Printed and on the wall, next to the kettle.")
    expect(ann.page.locator(".seen")).to_contain_text("Seen by")
    cleo.page.locator("#message").press_sequentially("Put the")
    expect(ann.page.get_by_test_id("typing")).to_contain_text("Cleo is typing")
    ann.page.mouse.move(600, 20)
    expect(ann.page.locator(".tools:visible")).to_have_count(0)
    shoot(ann.page, f"chat-{scheme}")
    ann.page.get_by_role("button", name="People").click()
    expect(ann.page.locator(".person")).to_have_count(3)
    shoot(ann.page, f"people-{scheme}")
    ann.page.get_by_role("button", name="Connection, nodes and token").click()
    shoot(ann.page, f"connection-{scheme}")
    ann.page.get_by_role("button", name="Join or create a room").click()
    expect(ann.page.get_by_role("dialog")).to_be_visible()
    shoot(ann.page, f"rooms-{scheme}")

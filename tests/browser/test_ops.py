"""The operator's page on three real nodes: in calm, before a cliff and behind it, when things go wrong; and what its buttons do."""

import re
import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import MeetPerson, Shoot, three_nodes
from tests.browser.operator import Operator
from tests.browser.person import PATIENCE_MS
from tests.support.guests import Guests
from tests.support.held import log_held
from tests.support.http import bearer, post
from tests.support.nodes import Cluster
from tests.support.tokens import token
from tests.support.wait import block_until

pytestmark = pytest.mark.timeout(180)
LETS_IN = 4  # handshakes a second of each node, far fewer than it could
CROWD = 300


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three nodes that let few in at a time, so that a small crowd is a storm."""
    with three_nodes(tmp_path_factory.mktemp("ops"), handshake_rate=str(LETS_IN), handshake_burst="110") as cluster:
        yield cluster


@pytest.fixture
def guests() -> Iterator[Guests]:
    with Guests() as guests:
        yield guests


def test_calm(cluster: Cluster, meet: MeetPerson, guests: Guests, shoot: Shoot) -> None:
    """Nodes, sessions and what lies ahead are there at once, in figures too, and after a reload."""
    guests.come(cluster.urls, [token(f"guest-{number}", ttl=1_800) for number in range(5)])
    boss = Operator(meet("boss", color_scheme="dark")).sign_in(cluster[0].url)
    expect(boss.page.get_by_test_id("where")).to_have_text("on n1")
    expect(boss.attention).to_contain_text("6 sessions on 3 nodes, 3 ready")
    for node, sessions in (("n1", 3), ("n2", 2), ("n3", 1)):
        expect(boss.card(node).get_by_test_id("condition")).to_have_text("ready")
        expect(boss.fact(node, "sessions")).to_have_text(str(sessions))
        expect(boss.fact(node, "by WebSocket")).to_have_text(str(sessions))
        expect(boss.fact(node, "log")).to_contain_text("up, lag")
        expect(boss.fact(node, "lets in")).to_have_text(f"{LETS_IN} / s")
    boss.page.get_by_label("1 hour").check(force=True)
    expect(boss.page.get_by_role("img", name=re.compile("over the next 1 hour, against 12 that can come back"))).to_be_visible()
    boss.page.get_by_text("As a table").click()
    ending = boss.page.get_by_role("region", name="Sessions ending ahead, as a table").locator("td:nth-child(2)")
    assert sum(map(int, ending.all_inner_texts())) == 5
    shoot(boss.page, "ops-calm-dark")
    boss.page.reload()
    boss.sees_the_cluster()  # the dev issuer was asked again


def test_the_cliff_is_seen_before_it_comes(cluster: Cluster, meet: MeetPerson, guests: Guests, shoot: Shoot) -> None:
    """A crowd whose tokens end together stands as one bar over what can come back, and who needs a screen reader or has a phone meets
    nothing that is out of reach; then it ends, and who knocks is counted by code.
    """
    boss = Operator(meet("boss", viewport={"width": 1240, "height": 1060}, color_scheme="light")).sign_in(cluster[1].url)
    crowd = guests.come(cluster.urls, [token(f"crowd-{number}") for number in range(CROWD)])
    end = int(time.time()) + 7
    guests.renew(crowd, [token(f"crowd-{number}", exp=end) for number in range(CROWD)])
    cliff = (
        rf"^Cliff ahead: {CROWD} sessions end together, at [\d:]+, in \d+ s\. The cluster lets 12 in a second in: .* 25 s later"
    )
    expect(boss.outlook).to_have_text(re.compile(cliff), timeout=PATIENCE_MS)
    expect(boss.attention).to_contain_text("Cliff ahead")
    chart = boss.page.get_by_role("img", name=re.compile("Sessions that end in one second, over the next 1 minute"))
    expect(chart.locator(".tone-bad[height]:not([height='0'])")).to_have_count(1)
    expect(chart.locator(".chart-figure")).to_have_text(str(CROWD))
    began = place_of_the_bar(boss)
    shoot(boss.page, "ops-cliff")
    block_until(lambda: place_of_the_bar(boss) < began - 15, 10, "the bar has moved to the left")
    expired, busy = boss.turned_away("token_expired"), boss.turned_away("server_busy")
    assert boss.violations() == []
    boss.page.emulate_media(color_scheme="dark")
    assert boss.violations() == []
    fits_a_phone(boss, shoot)
    block_until(lambda: guests.staying == 0, 30, "the cliff")
    knocked = guests.knock(cluster.urls, [token(f"crowd-{number}", exp=end) for number in range(2 * CROWD)])
    assert set(knocked) == {"token_expired", "503"} and knocked.total() == 2 * CROWD
    seen = (expired + knocked["token_expired"], busy + knocked["503"])
    block_until(
        lambda: (boss.turned_away("token_expired"), boss.turned_away("server_busy")) == seen, 15, f"the page counts {seen}"
    )
    shoot(boss.page, "ops-storm")
    expect(boss.outlook).not_to_contain_text("Cliff")


def fits_a_phone(boss: Operator, shoot: Shoot) -> None:
    """At 360 pixels nothing scrolls sideways, with a long name and its dialog neither; then the window is as it was."""
    window, long = boss.page.viewport_size, "w" * 100
    boss.page.set_viewport_size({"width": 360, "height": 740})
    shoot(boss.page, "ops-phone")
    boss.find(long)
    assert boss.too_wide <= 0
    dialog = boss.press(f"Revoke all tokens of {long}")
    assert boss.too_wide <= 0 and dialog.evaluate("node => node.scrollWidth <= node.clientWidth")
    boss.page.keyboard.press("Escape")
    boss.page.set_viewport_size(window or {"width": 1240, "height": 1060})


def place_of_the_bar(boss: Operator) -> float:
    """Where the highest bar of the first chart stands, from the left."""
    box = boss.page.locator(".chart-figure").first.bounding_box()
    return box["x"] if box is not None else 0.0


def test_buttons_ask_by_name_and_number_and_do_it(cluster: Cluster, meet: MeetPerson, guests: Guests) -> None:
    """Revoking and suspending first say whom they touch and where, do nothing when cancelled, and then do it."""
    boss = Operator(meet("boss", color_scheme="light")).sign_in(cluster[0].url)
    ann = guests.come(cluster.urls, [token("ann", jti=f"ann-{number}", iat=int(time.time()) - 9) for number in range(5)])
    boss.find("ann")
    dialog = boss.press("Revoke token of ann on n2")
    touches = re.compile(r"^Ends 1 session that ever had the token ann-[14] on n2\.$")
    expect(dialog.get_by_test_id("touches")).to_have_text(touches)
    dialog.get_by_role("button", name="Cancel").click()
    expect(dialog).to_have_count(0)
    assert not any(client.closed for client in ann)
    boss.confirm(boss.press("Revoke token of ann on n2"), "Revoke the token", "Done: 1 session ended on n2.")
    dialog = boss.press("Revoke all tokens of ann")
    expect(dialog.get_by_test_id("touches")).to_have_text("Ends 4 sessions of ann on n1 (2), n2 (1), n3 (1).")
    boss.confirm(dialog, "Revoke ann", "Done: 4 sessions ended on n1 (2), n2 (1), n3 (1).")
    guests.gone(ann)
    bob = guests.come(cluster.urls[2:], [token("bob")])
    boss.find("bob")
    dialog = boss.press("Suspend bob")
    dialog.get_by_label("How long").select_option("until a moment")
    expect(dialog.get_by_role("button", name="Suspend bob")).to_be_disabled()
    dialog.get_by_label("Day and time").fill("2099-05-04T12:30")
    boss.confirm(dialog, "Suspend bob", "Done: 1 session ended on n3.")
    guests.gone(bob)
    assert guests.knock(cluster.urls, [token("bob")] * 3) == {"user_suspended": 3}
    expect(boss.page.locator("[data-user=bob]")).to_contain_text("suspended until")
    boss.confirm(boss.press("Let in again: bob"), "Let bob in", "Done.")
    assert guests.knock(cluster.urls, [token("bob")] * 3) == {"welcome": 3}
    expect(boss.page.get_by_test_id("notes").locator("li")).to_have_count(4)


def test_by_keyboard_alone(cluster: Cluster, meet: MeetPerson, guests: Guests) -> None:
    """From the door to a disconnected session and back to the list without a mouse; where one is stands out, and Escape lets go."""
    (eve,) = guests.come(cluster.urls, [token("eve")])
    boss = Operator(meet("boss", color_scheme="light")).sign_in(cluster[0].url)
    keys = boss.page.keyboard
    reach(boss, "#find")
    keys.type("eve")
    expect(boss.page.locator("[data-user=eve] .row")).to_have_count(1)
    reach(boss, "[data-user=eve] .row button:last-child")
    assert boss.page.evaluate("getComputedStyle(document.activeElement).boxShadow") != "none"
    keys.press("Enter")
    boss.asked()
    keys.press("Escape")
    expect(boss.page.get_by_role("dialog")).to_have_count(0)
    expect(boss.page.get_by_role("button", name="Disconnect eve on n1")).to_be_focused()
    assert not eve.closed
    keys.press("Enter")
    dialog = boss.asked()
    keys.press("Tab")
    expect(dialog.get_by_role("button", name="Disconnect")).to_be_focused()
    keys.press("Enter")
    expect(dialog.get_by_role("button", name="Close")).to_be_focused(timeout=PATIENCE_MS)
    expect(dialog.get_by_test_id("touches")).to_have_text("Done: 1 session ended on n1.")
    keys.press("Enter")
    guests.gone([eve])
    expect(boss.page.get_by_role("heading", name="Sessions", exact=True)).to_be_focused(timeout=PATIENCE_MS)  # the button is gone


def reach(boss: Operator, selector: str) -> None:
    """Press Tab until this has the focus."""
    for _ in range(60):
        boss.page.keyboard.press("Tab")
        if boss.page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"Tab does not reach {selector}")


def test_tokens_that_are_no_good(cluster: Cluster, meet: MeetPerson, shoot: Shoot) -> None:
    """Each is said to be what it is; one that ends is asked for anew in time; nothing is kept; who is withdrawn sees nothing any more."""
    boss = Operator(meet("boss", color_scheme="light")).at_the_door(cluster[0].url)
    boss.page.get_by_role("button", name="Use a token instead").click()
    alert = boss.page.get_by_role("alert")
    for bad, why in (
        ("no.token.atall", "This token was not accepted"),
        (token("boss"), "This token is refused: the token does not have the scope admin (scope_missing)."),
        (token("boss", scope="admin", ttl=-5), "This token has ended. Paste a fresh one."),
    ):
        boss.paste(bad)
        expect(alert).to_contain_text(why, timeout=PATIENCE_MS)
    boss.paste(token("boss", scope="admin", ttl=4))
    boss.sees_the_cluster()
    dialog = boss.page.get_by_role("dialog")
    expect(dialog).to_contain_text("This token ends soon. Paste a fresh one.", timeout=PATIENCE_MS)
    shoot(boss.page, "ops-token-ends")
    boss.paste(token("boss", scope="admin"))
    expect(dialog).to_have_count(0)
    assert boss.page.evaluate("[sessionStorage.length, localStorage.length, document.cookie]") == [0, 0, ""]
    admin = bearer(token("other", scope="admin"))
    assert post(f"{cluster[0].url}/api/revoke", json={"user": "boss"}, headers=admin).status_code == 200
    expect(alert).to_have_text("This token is refused: access has been withdrawn (token_revoked).", timeout=PATIENCE_MS)
    expect(boss.outlook).to_have_count(0)


def test_a_node_is_drained(cluster: Cluster, meet: MeetPerson, guests: Guests) -> None:
    """The dialog says how many have to go and where to; the node ends, the page goes on at another, and says what has become of it."""
    guests.come(cluster.urls[2:], [token("dan"), token("dora")])
    boss = Operator(meet("boss", color_scheme="light")).sign_in(cluster[2].url)
    boss.person.may_lose_nodes = True
    expect(boss.fact("n3", "sessions")).to_have_text("3")
    dialog = boss.press("Drain n3")
    expect(dialog.get_by_test_id("touches")).to_have_text("Ends 3 sessions on n3.")
    expect(dialog).to_contain_text("They are told to come back elsewhere: n1, n2 can let in 8 a second.")
    expect(dialog).to_contain_text("This page is on it, and goes elsewhere too.")
    cluster[2].expect_end()
    boss.confirm(dialog, "Drain n3", "It drains: 3 sessions of it are told to come back elsewhere.")
    assert cluster[2].wait_ended() == 0
    expect(boss.page.get_by_test_id("where")).to_have_text(re.compile("^on n[12]$"), timeout=PATIENCE_MS)
    expect(boss.card("n3").get_by_test_id("condition")).to_have_text("ended", timeout=PATIENCE_MS)
    expect(boss.attention).to_contain_text("on 2 nodes, 2 ready; drained and ended: n3.")
    expect(boss.attention.get_by_role("heading")).to_have_text("All is well", timeout=PATIENCE_MS)


def test_a_node_that_hangs_and_a_log_that_is_away(cluster: Cluster, meet: MeetPerson, shoot: Shoot) -> None:
    """What stands there is said to be old, then the page goes elsewhere; a log that is away is seen on each node, nothing is claimed to be
    done meanwhile, and who chats is told that messages wait, until they go.
    """
    boss = Operator(meet("boss", color_scheme="light")).sign_in(cluster[0].url)
    boss.person.may_lose_nodes = True
    ann = meet("ann").sign_in(cluster[1].url)
    ann.may_lose_nodes = True
    ann.create("Floodgate")
    cluster[0].pause()
    with log_held(cluster.folder):
        ann.say("Is anyone there?")
        ann.strip_says("Messages are waiting: the log is away")
        shoot(ann.page, "log-away")
        expect(boss.page.get_by_test_id("old")).to_contain_text("s old, of", timeout=PATIENCE_MS)
        cluster[0].kill()
        expect(boss.page.get_by_test_id("where")).to_have_text(re.compile("^on n[23]$"), timeout=PATIENCE_MS)
        expect(boss.page.get_by_test_id("old")).to_have_count(0, timeout=PATIENCE_MS)
        expect(boss.attention).to_contain_text("n2 is not ready: log away", timeout=PATIENCE_MS)
        expect(boss.fact("n2", "log")).to_contain_text("away")
        boss.find("ann")
        dialog = boss.press("Revoke all tokens of ann")
        dialog.get_by_role("button", name="Revoke ann").click()
        refused = dialog.get_by_role("alert")
        expect(refused).to_contain_text("Not known to be done: the log cannot take this now", timeout=PATIENCE_MS)
        boss.page.keyboard.press("Escape")
        boss.page.evaluate("scrollTo(0, 0)")
        shoot(boss.page, "ops-log-away")
    expect(ann.page.get_by_test_id("strip")).to_have_count(0, timeout=PATIENCE_MS)
    ann.sees("Is anyone there?")
    expect(boss.card("n2").get_by_test_id("condition")).to_have_text("ready", timeout=PATIENCE_MS)
    expect(boss.card("n1").get_by_test_id("condition")).to_have_text("gone", timeout=PATIENCE_MS)
    expect(boss.attention).to_contain_text("n1 has not been heard for")
    late = Operator(meet("late", color_scheme="light")).sign_in(cluster[1].url)
    expect(late.card("n1").get_by_test_id("condition")).to_have_text("gone", timeout=PATIENCE_MS)
    expect(late.attention).to_contain_text("n1 has not been heard for")

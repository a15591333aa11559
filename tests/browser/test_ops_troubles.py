"""The operator's page when things go wrong: bad tokens, a node that hangs and dies, a log that is away; and the chat page beside it."""

import re
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import expect

from tests.browser.conftest import MeetPerson, Shoot, three_nodes
from tests.browser.operator import Operator
from tests.browser.person import PATIENCE_MS
from tests.support.held import log_held
from tests.support.http import bearer
from tests.support.nodes import Cluster
from tests.support.tokens import token

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One node that issues no tokens."""
    with Cluster(tmp_path_factory.mktemp("strict"), count=1) as cluster:
        yield cluster


def test_tokens_that_are_no_good(strict: Cluster, meet: MeetPerson, shoot: Shoot) -> None:
    """Each is said to be what it is; one that ends is asked for anew in time; nothing is kept; who is withdrawn sees nothing any more."""
    boss = Operator(meet("boss", color_scheme="light")).at_the_door(strict[0].url)
    expect(boss.page.get_by_label("Your name")).to_have_count(0)
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
    assert httpx.post(f"{strict[0].url}/api/revoke", json={"user": "boss"}, headers=admin).status_code == 200
    expect(alert).to_have_text("This token is refused: access has been withdrawn (token_revoked).", timeout=PATIENCE_MS)
    expect(boss.outlook).to_have_count(0)


def test_a_node_that_hangs_and_a_log_that_is_away(
    tmp_path_factory: pytest.TempPathFactory, meet: MeetPerson, shoot: Shoot
) -> None:
    """What stands there is said to be old, then the page goes elsewhere; a log that is away is seen on each node, nothing is claimed to be
    done meanwhile, and who chats is told that messages wait, until they go.
    """
    folder = tmp_path_factory.mktemp("troubles")
    with three_nodes(folder) as cluster:
        boss = Operator(meet("boss", color_scheme="light")).sign_in(cluster[0].url)
        boss.person.may_lose_nodes = True
        ann = meet("ann").sign_in(cluster[1].url)
        ann.may_lose_nodes = True
        ann.create("Floodgate")
        cluster[0].pause()
        with log_held(folder):
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

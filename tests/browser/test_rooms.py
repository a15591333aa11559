"""The first user of a fresh cluster: how rooms are made, found and named on the page."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.conftest import MeetPerson, Shoot
from tests.browser.person import PATIENCE_MS, Person
from tests.support.nodes import Cluster

pytestmark = pytest.mark.timeout(120)
PHONE = {"viewport": {"width": 390, "height": 780}, "has_touch": True, "is_mobile": True}


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One node; without any room until the first test makes one."""
    with Cluster(tmp_path_factory.mktemp("fresh"), {"dev_issuer": "1"}, count=1) as cluster:
        yield cluster


def dialog_of(person: Person) -> Locator:
    """The rooms dialog, opened where one looks first: in the middle of the empty page."""
    person.page.get_by_role("main").get_by_role("button", name="Join or create a room").click()
    return person.page.get_by_role("dialog")


def test_the_first_room_of_a_cluster(fresh: Cluster, meet: MeetPerson, shoot: Shoot) -> None:
    """A title without a letter is red, once it was tried; what is not found can be made, by keyboard alone; a search says titles."""
    ann, bob = meet("ann").sign_in(fresh[0].url), meet("bob").sign_in(fresh[0].url)
    keys = ann.page.keyboard
    expect(ann.page.get_by_role("main").get_by_role("button")).to_be_visible()
    shoot(ann.page, "empty")
    dialog = dialog_of(ann)
    expect(dialog).to_contain_text("No public rooms to join yet.")
    expect(dialog.locator(".error")).to_have_count(0)
    expect(dialog.get_by_label("Invited people only")).not_to_be_checked()
    title = dialog.get_by_label("Title")
    for nothing in ("", "!!!"):
        title.fill(nothing)
        expect(dialog.locator(".error")).to_have_count(0)
        dialog.get_by_role("button", name="Create", exact=True).click()
        expect(dialog.locator(".error")).to_have_text("At least one letter or digit")
        expect(title).to_have_attribute("aria-invalid", "true")
        expect(title).to_be_focused()
    shoot(ann.page, "rooms-error")

    find = dialog.get_by_label("Find a public room")
    find.focus()
    keys.type("Lobby side")
    keys.press("Enter")
    expect(dialog.get_by_role("button", name="Create “Lobby side”")).to_be_focused()
    shoot(ann.page, "rooms-offer")
    keys.press("Enter")
    expect(ann.heading("Lobby side")).to_be_visible(timeout=PATIENCE_MS)
    expect(ann.page.locator("#message")).to_be_focused()

    dialog_of(bob).get_by_label("Find a public room").fill("lobby")
    bob.page.keyboard.press("Enter")
    expect(bob.heading("Lobby side")).to_be_visible(timeout=PATIENCE_MS)
    bob.create("Гавань")
    bob.page.get_by_role("button", name="Join or create a room").click()
    bob.page.keyboard.type("LOBBY SIDE")
    expect(bob.page.get_by_role("button", name="Open Lobby side")).to_be_visible()
    bob.page.keyboard.press("Enter")
    expect(bob.heading("Lobby side")).to_be_visible(timeout=PATIENCE_MS)

    bob.say("High water at six")
    bob.sees("High water at six")
    bob.page.keyboard.press("Control+k")
    bob.page.keyboard.type("water")
    expect(bob.page.locator(".result-head")).to_contain_text("Lobby side · Today")


def test_the_rooms_dialog_fits_a_phone(fresh: Cluster, meet: MeetPerson, shoot: Shoot) -> None:
    """At 390 pixels nothing of it is wider than the screen, with an error and an offer in it too."""
    ann = meet("pia", color_scheme="light", **PHONE).sign_in(fresh[0].url)
    ann.page.get_by_role("button", name="Join or create a room").click()
    dialog = ann.page.get_by_role("dialog")
    dialog.get_by_label("Find a public room").fill("The lobby of the harbour office at the old pier")
    expect(dialog.get_by_role("button", name="Create “The lobby")).to_be_visible()
    dialog.get_by_label("Title").fill("!!!")
    dialog.get_by_role("button", name="Create", exact=True).click()
    expect(dialog.locator(".error")).to_be_visible()
    for scheme in ("light", "dark"):
        ann.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        shoot(ann.page, f"phone-rooms-dialog-{scheme}")
    assert dialog.evaluate("node => node.scrollWidth <= node.clientWidth")
    assert ann.evaluate("document.documentElement.scrollWidth") <= 390

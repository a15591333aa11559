"""An operator at the page `/ops`: what one sees and does there, in the words of the page."""

import re
from typing import Any, Self

from playwright.sync_api import Locator, expect

from tests.browser.person import PATIENCE_MS, Person
from tests.support.nodes import ROOT

AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"


class Operator:
    """At the page of one tab, which is that of a `Person`."""

    def __init__(self, person: Person) -> None:
        self.person, self.page = person, person.page

    # Coming in

    def at_the_door(self, url: str) -> Self:
        self.page.goto(f"{url}/ops")
        expect(self.page.get_by_role("heading", name="Tidegate operations")).to_be_visible(timeout=PATIENCE_MS)
        return self

    def sign_in(self, url: str) -> Self:
        """As a developer, with the keyboard: the field has the focus and a name in it already."""
        self.at_the_door(url)
        expect(self.page.get_by_label("Your name")).to_be_focused()
        self.page.keyboard.press("Enter")
        return self.sees_the_cluster()

    def paste(self, token: str) -> None:
        """A token, at the door or in the dialog that wants a fresh one."""
        self.page.get_by_label("Token", exact=True).fill(token)
        self.page.get_by_role("button", name=re.compile("Come in|Go on")).click()

    def sees_the_cluster(self) -> Self:
        expect(self.page.get_by_test_id("outlook")).to_be_visible(timeout=PATIENCE_MS)
        return self

    # Seeing

    @property
    def attention(self) -> Locator:
        return self.page.get_by_test_id("attention")

    @property
    def outlook(self) -> Locator:
        return self.page.get_by_test_id("outlook")

    def card(self, node: str) -> Locator:
        return self.page.locator(f"[data-node={node}]")

    def fact(self, node: str, name: str) -> Locator:
        """What a node's card says under a name."""
        return (
            self.card(node)
            .locator("dl > div")
            .filter(has=self.page.locator("dt", has_text=re.compile(f"^{name}$")))
            .locator("dd")
        )

    def turned_away(self, code: str) -> int:
        """How many handshakes the page says were turned away with this code since the nodes' start."""
        table = self.page.get_by_role("table", name="Turned away, by code")
        row = table.locator("tr").filter(has=self.page.get_by_text(code, exact=True))
        return int(row.locator("td").last.inner_text().replace(",", "")) if row.count() else 0

    def strip_says(self, words: str | re.Pattern[str]) -> None:
        expect(self.page.get_by_test_id("strip")).to_contain_text(words, timeout=PATIENCE_MS)

    # Doing

    def find(self, words: str, by: str = "User") -> None:
        self.page.get_by_label("Look by").select_option(label=by)
        self.page.locator("#find").fill(words)
        expect(self.page.get_by_test_id("found")).to_contain_text(words, timeout=PATIENCE_MS)

    def press(self, button: str) -> Locator:
        """A button that asks before it acts; returns its dialog, once that knows what would be touched."""
        self.page.get_by_role("button", name=button, exact=True).first.click()
        return self.asked()

    def asked(self) -> Locator:
        """The dialog that is open, once it knows what would be touched."""
        dialog = self.page.get_by_role("dialog")
        expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
        expect(dialog.get_by_test_id("touches")).not_to_contain_text("Looking", timeout=PATIENCE_MS)
        return dialog

    def confirm(self, dialog: Locator, verb: str, result: str | re.Pattern[str]) -> None:
        """Do it; read what became of it; close."""
        dialog.get_by_role("button", name=verb, exact=True).click()
        expect(dialog.get_by_test_id("touches")).to_contain_text(result, timeout=PATIENCE_MS)
        expect(dialog.get_by_role("button", name="Close")).to_be_focused()
        self.page.keyboard.press("Enter")
        expect(dialog).to_have_count(0)

    # Holding the page to something

    def violations(self) -> list[str]:
        """What axe-core finds wrong, in the colours that are on now."""
        self.page.evaluate(AXE.read_text())
        found: list[dict[str, Any]] = self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
        return [f"{one['id']}: {node['html'][:200]}" for one in found for node in one["nodes"]]

    @property
    def too_wide(self) -> int:
        """By how many pixels the page is wider than its window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))

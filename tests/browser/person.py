"""A person at the chat page: what one does and sees there, in the words of the page."""

import re
from typing import Any, Self

from playwright.sync_api import BrowserContext, ConsoleMessage, Locator, expect

from tests.support.wait import block_until

UNREACHABLE = re.compile(
    r"ERR_CONNECTION_(REFUSED|RESET|CLOSED)|ERR_EMPTY_RESPONSE|WebSocket connection to .* failed|status of 50\d"
)
PATIENCE_MS = 15_000


class Person:
    """One user in one tab. `wrong` collects what the browser complained of: errors, rejections, breaches of the policy."""

    def __init__(self, context: BrowserContext, name: str) -> None:
        context.set_default_timeout(PATIENCE_MS)
        self.name, self.page = name, context.new_page()
        self.wrong: list[str] = []
        self.may_lose_nodes = False  # a dead node's address is an error in the console, whoever asks for it
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.wrong.append(f"{name}: {error}"))
        self.page.on("dialog", lambda dialog: dialog.accept())

    def _console(self, message: ConsoleMessage) -> None:
        if message.type not in ("error", "warning"):
            return
        if not (self.may_lose_nodes and UNREACHABLE.search(message.text)):
            self.wrong.append(f"{self.name}: {message.text}")

    # Coming in

    def sign_in(self, url: str, query: str = "") -> Self:
        """By name, with the keyboard: the field has the focus already."""
        self.page.goto(f"{url}/{query}")
        expect(self.page.get_by_label("Your name")).to_be_focused(timeout=PATIENCE_MS)
        self.page.keyboard.type(self.name)
        self.page.keyboard.press("Enter")
        expect(self.page.get_by_test_id("node")).to_be_visible(timeout=PATIENCE_MS)
        return self

    @property
    def node(self) -> str:
        """The node that the page says it is on; empty while it is on none."""
        shown = self.page.get_by_test_id("node")
        return shown.inner_text() if shown.count() else ""

    # Rooms

    def create(self, title: str, *, private: bool = False) -> None:
        self.page.get_by_role("button", name="Join or create a room").first.click()
        dialog = self.page.get_by_role("dialog")
        dialog.get_by_label("Title").fill(title)
        if private:
            dialog.get_by_label("Invited people only").check()
        dialog.get_by_role("button", name="Create", exact=True).click()
        expect(self.heading(title)).to_be_visible(timeout=PATIENCE_MS)

    def join(self, title: str) -> None:
        self.page.get_by_role("button", name="Join or create a room").first.click()
        dialog = self.page.get_by_role("dialog")
        dialog.get_by_label("Find a public room").fill(title)
        dialog.get_by_role("button", name=f"Join {title}", exact=True).click()
        expect(self.heading(title)).to_be_visible(timeout=PATIENCE_MS)

    def open(self, title: str) -> None:
        self.room_link(title).click()
        expect(self.heading(title)).to_be_visible(timeout=PATIENCE_MS)

    def heading(self, title: str) -> Locator:
        return self.page.get_by_role("heading", level=1).filter(has_text=title)

    def room_link(self, title: str) -> Locator:
        return self.page.locator(".room-link").filter(has=self.page.get_by_text(title, exact=True))

    # Messages

    def say(self, text: str) -> None:
        box = self.page.locator("#message")
        box.fill(text)
        box.press("Enter")

    def line(self, text: str) -> Locator:
        """The lines, solid ones, whose own text is this."""
        return self.page.locator(".line[data-seq]").filter(has=self.page.locator(".bubble > .text", has_text=exactly(text)))

    def sees(self, text: str, *, count: int = 1) -> None:
        expect(self.line(text)).to_have_count(count, timeout=PATIENCE_MS)

    def texts(self) -> list[str]:
        """The texts of the lines, solid ones, from the top."""
        return self.page.locator(".line[data-seq] .bubble > .text").all_inner_texts()

    def do(self, text: str, action: str) -> None:
        """Press one of the buttons that stand beside a line."""
        line = self.line(text)
        line.hover()
        line.get_by_role("button", name=action).click()

    # The connection

    def strip_says(self, words: str | re.Pattern[str]) -> None:
        expect(self.page.get_by_test_id("strip")).to_contain_text(words, timeout=PATIENCE_MS)

    def journal_says(self, words: str | re.Pattern[str]) -> None:
        """Opens the connection pane and reads what happened."""
        if not self.page.get_by_test_id("journal").is_visible():
            self.page.get_by_role("button", name="Connection, nodes and token").click()
        expect(self.page.get_by_test_id("journal")).to_contain_text(words, timeout=PATIENCE_MS)

    def is_on(self, node: str) -> None:
        block_until(lambda: self.node == node, PATIENCE_MS / 1_000, f"{self.name} is on {node}, not {self.node!r}")

    def evaluate(self, script: str) -> Any:
        return self.page.evaluate(script)


def exactly(text: str) -> re.Pattern[str]:
    return re.compile(rf"^{re.escape(text)}$")

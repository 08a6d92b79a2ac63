"""Debian's chromium, driven by Playwright; and people who use it. Tests get them through the fixtures of conftest.

Playwright's plain calls run an event loop in their thread, where Django would refuse its ORM: they have a thread of
their own.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Playwright, Response

T = TypeVar("T")

#: Where `make screenshots` wants its pictures; nothing is stored without it.
SCREENSHOTS = os.environ.get("SCREENSHOTS", "")
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
#: Milliseconds that a page may take to show what is waited for: two cores are shared with workers and other tests.
PATIENCE = 20_000
#: The admin has none, and chromium asks for it all the same. Not refused on its way: with a route chromium keeps no
#: file, and asks for every style sheet and script anew with each page.
_ICON = "/favicon.ico"
#: What a policy refuses is said where all other faults of a page are.
_REPORT = """addEventListener("securitypolicyviolation", (event) => {
    console.error(`refused by ${event.violatedDirective}: ${event.blockedURI} ${event.sample}`);
});"""


def executable() -> str:
    """The path of chromium; without one the test is skipped, and fails where nothing may be missing."""
    if found := shutil.which("chromium"):
        return found
    missing = "chromium is missing: tests in a browser need Debian's package of this name"
    if os.environ.get("CI"):
        pytest.fail(missing)
    pytest.skip(missing)


class Chromium:
    """The browser, and the one thread that speaks to it."""

    def __init__(self, path: str) -> None:
        from playwright.sync_api import sync_playwright

        self._thread = ThreadPoolExecutor(1, thread_name_prefix="chromium")
        self._playwright: Playwright = self.do(lambda: sync_playwright().start())
        self.browser: Browser = self.do(lambda: self._playwright.chromium.launch(executable_path=path))

    def do(self, work: Callable[[], T]) -> T:
        """Do this in the browser's thread."""
        return self._thread.submit(work).result()

    def end(self) -> None:
        self.do(self.browser.close)
        self.do(self._playwright.stop)
        self._thread.shutdown()


class Visitor:
    """A person with a browser window. What a page complains of is kept in `faults`."""

    def __init__(self, chromium: Chromium, server: str, **options: Any) -> None:
        self._chromium = chromium
        self._server = server
        self.faults: list[str] = []
        self._context: BrowserContext = chromium.do(lambda: self._new_context(**options))
        self._page: Page = chromium.do(self._new_page)

    def _new_context(self, **options: Any) -> BrowserContext:
        given = {"viewport": WIDE, "locale": "en-GB", "timezone_id": "UTC", "reduced_motion": "reduce", **options}
        context = self._chromium.browser.new_context(base_url=self._server, **given)
        context.set_default_timeout(PATIENCE)
        context.add_init_script(_REPORT)
        return context

    def _new_page(self) -> Page:
        page = self._context.new_page()
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.faults.append(f"script: {error}"))
        page.on("response", self._look)
        return page

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not message.location["url"].endswith(_ICON):
            self.faults.append(f"console: {message.text}")

    def _look(self, response: Response) -> None:
        if response.status >= 400 and not response.url.endswith(_ICON):
            self.faults.append(f"{response.status}: {response.url.removeprefix(self._server)}")

    # -- what a person does ----------------------------------------------------------------------------

    def do(self, work: Callable[[Page], T]) -> T:
        """Do with the page whatever has no name here."""
        return self._chromium.do(lambda: work(self._page))

    def opens(self, path: str) -> Visitor:
        self.do(lambda page: page.goto(path))
        return self

    def clicks(self, name: str, within: str = "body") -> None:
        """Click the link or button of this name, and wait for the page that it leads to, if it does."""
        either = re.compile(f"^{re.escape(name)}$")

        def click(page: Page) -> None:
            inside = page.locator(within)
            inside.get_by_role("link", name=either).or_(inside.get_by_role("button", name=either)).click()
            page.wait_for_load_state()

        self.do(click)

    def fills(self, label: str, text: str) -> None:
        self.do(lambda page: page.get_by_label(label, exact=True).fill(text))

    def chooses(self, label: str, option: str) -> None:
        self.do(lambda page: page.get_by_label(label, exact=True).select_option(label=option))

    def sees(self, text: str, within: str = "body") -> None:
        """Wait until the page shows this text there."""
        from playwright.sync_api import expect

        self.do(lambda page: expect(page.locator(within).first).to_contain_text(text, timeout=PATIENCE))

    def reads(self, within: str = "body") -> str:
        """What the page shows there now."""
        return self.do(lambda page: page.locator(within).first.inner_text())

    def number(self, selector: str) -> int:
        """How many of these the page has now."""
        return self.do(lambda page: page.locator(selector).count())

    def shoots(self, name: str, selector: str = "", *, whole: bool = True) -> None:
        """Take a picture for the docs: of the whole page, of what the window shows of it, or of this part."""
        if SCREENSHOTS:
            path = Path(SCREENSHOTS) / f"{name}.png"
            if selector:
                self.do(lambda page: page.locator(selector).first.screenshot(path=path))
            else:
                self.do(lambda page: page.screenshot(path=path, full_page=whole))

    # -- around that -----------------------------------------------------------------------------------

    def has_cookie(self, name: str, value: str) -> Visitor:
        cookie: Any = {"name": name, "value": value, "url": self._server}
        self._chromium.do(lambda: self._context.add_cookies([cookie]))
        return self

    def leaves(self) -> None:
        self._chromium.do(self._context.close)

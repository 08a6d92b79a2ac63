"""What a person reads on pages of the admin: the texts of a page, and the pages that links lead to."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from typing import Any
from urllib.parse import parse_qsl, urljoin, urlsplit

from django.test import Client
from django.urls import reverse

#: Attributes that are read, aloud or in the browser's hints.
READ = ("title", "aria-label", "placeholder", "alt", "data-canx-copied")
#: Elements without an end.
VOID = {"area", "base", "br", "col", "hr", "img", "input", "link", "meta", "source", "wbr"}
#: What is the project's own, as names, ids, values and errors, or the keyboard's.
OWN = ("code", "kbd", "pre")
#: How the pseudo language marks a text.
BEGIN, END = "⟦", "⟧"


class Texts(HTMLParser):
    """Collects the texts of a page; what is in `OWN`, and what a script or a choice of names holds, is left out.

    `outside`: pieces of text that stand outside all marks of the pseudo language, a piece for each element.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.outside: list[str] = []
        self._depth = 0
        self._open: list[tuple[str, bool]] = []

    @property
    def _silent(self) -> bool:
        return any(silent for _tag, silent in self._open)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if not self._silent:
            texts = [given[name] for name in READ if given.get(name)]
            if tag == "input" and given.get("type") in ("submit", "button", "reset"):
                texts.append(given.get("value", ""))
            for text in texts:
                self.found.append(text)
                self.outside += _outside(text, 0)[0]
        if tag not in VOID:
            names_own = tag == "select" and given.get("name") == "from_step"
            self._open.append((tag, tag in (*OWN, "script", "style", "textarea") or names_own))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        for place in range(len(self._open) - 1, -1, -1):
            if self._open[place][0] == tag:
                del self._open[place:]
                return

    def handle_data(self, data: str) -> None:
        if self._silent:
            return
        pieces, self._depth = _outside(data, self._depth)
        self.outside += pieces
        if data.strip():
            self.found.append(" ".join(data.split()))

    @property
    def is_balanced(self) -> bool:
        """Whether every mark that was opened was closed."""
        return self._depth == 0


def _outside(text: str, depth: int) -> tuple[list[str], int]:
    """Return what stands outside the marks, and how many of them are open at the end."""
    pieces, now = [], ""
    for char in text:
        if char == BEGIN:
            if not depth:
                pieces.append(now)
                now = ""
            depth += 1
        elif char == END and depth:
            depth -= 1
        elif not depth:
            now += char
    return [piece for piece in map(str.strip, [*pieces, now]) if piece], depth


def read(content: str) -> Texts:
    """Return the texts of a page."""
    texts = Texts()
    texts.feed(content)
    texts.close()
    return texts


_ID = re.compile(r"[0-9a-f]{8}(_2D|-)[0-9a-f_-]+", re.IGNORECASE)
_WORKFLOW = re.compile(r"(?<=/workflows/).+/$")
_LINK = re.compile(r'<a\b[^>]*\bhref="([^"]*)"')


def crawl(client: Client, *first: str, most: int = 200) -> Iterator[tuple[str, str]]:
    """Yield the pages of ours that links lead to from these and the admin's index: addresses and contents."""
    index = reverse("admin:index")
    waiting, seen = [index, *first], {None}
    while waiting and most:
        address = waiting.pop(0)
        shape = _shape(address)
        if shape in seen:
            continue
        seen.add(shape)
        answer = client.get(address, follow=True)
        if not answer.headers.get("Content-Type", "").startswith("text/html"):
            continue
        assert answer.status_code == 200, address
        most -= 1
        content = answer.content.decode()
        yield address, content
        links = [urljoin(address, link.replace("&amp;", "&")) for link in _LINK.findall(content)]
        waiting += [link for link in links if urlsplit(link).path.startswith(f"{index}canx_flow/")]
    assert not waiting or most, "more pages than were looked at"


def _shape(address: str) -> tuple[str, Any]:
    """Return what makes a page another one: each object has a page, but only one of each kind of action or filter."""
    parts = urlsplit(address)
    asked = sorted({name for name, _value in parse_qsl(parts.query) if not name.startswith("_")})
    if len(asked) > 2:
        return None
    one_by_one = parts.path.endswith("/change/") and not asked
    kind = _WORKFLOW.sub("*/", _ID.sub("*", parts.path))
    return (parts.path if one_by_one else kind), tuple(asked)


def marked(what: str) -> Callable[..., str]:
    """Return a stand-in for `gettext` and its like that marks every text: `what` says which of them it is."""

    def mark(*given: Any) -> str:
        if what == "gettext":
            text = given[0]
        elif what == "pgettext":
            text = given[1]
        elif what == "ngettext":
            text = given[0] if given[2] == 1 else given[1]
        else:
            text = given[1] if given[3] == 1 else given[2]
        return f"{BEGIN}{text}{END}" if text else ""

    return mark

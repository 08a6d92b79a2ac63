"""The catalogues of translations, read as translators write them (.po) and as Django reads them (.mo)."""

from __future__ import annotations

import ast
import gettext
import re
import string
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import canx_flow

LANGUAGES = ("de", "es")
LOCALE = Path(canx_flow.__file__).parent / "locale"
_LINE = re.compile(r'(msgctxt|msgid_plural|msgid|msgstr(?:\[\d\])?) (".*")')
_PERCENT = re.compile(r"%\(\w+\)[a-z]|%[a-z]")


@dataclass
class Entry:
    """One text with its translations: one, or one for each plural form."""

    said: dict[str, str] = field(default_factory=dict)
    comments: list[str] = field(default_factory=list)

    @property
    def sources(self) -> list[str]:
        return [self.said[name] for name in ("msgid", "msgid_plural") if name in self.said]

    @property
    def translations(self) -> list[str]:
        return [text for name, text in self.said.items() if name.startswith("msgstr")]

    @property
    def key(self) -> str:
        """As Django asks for it: with its context, if it has any."""
        context = self.said.get("msgctxt")
        return self.said["msgid"] if context is None else f"{context}\x04{self.said['msgid']}"


def path(language: str, suffix: str = ".po") -> Path:
    """Return where the catalogue of a language is."""
    return (LOCALE / language / "LC_MESSAGES" / "django").with_suffix(suffix)


def entries(po: Path) -> list[Entry]:
    """Read what translators write; the first entry, which is about the file, is left out."""
    found = [_entry(block) for block in po.read_text(encoding="utf-8").split("\n\n") if "msgid" in block]
    return [entry for entry in found if entry.said["msgid"]]


def _entry(block: str) -> Entry:
    entry, name = Entry(), ""
    for line in block.splitlines():
        if line.startswith("#"):
            entry.comments.append(line)
        elif begun := _LINE.fullmatch(line):
            name = begun[1]
            entry.said[name] = ast.literal_eval(begun[2])
        elif line.strip():
            entry.said[name] += ast.literal_eval(line)
    return entry


def placeholders(text: str) -> set[str]:
    """Return what is filled into a text: `{number}`, `%(number)s`."""
    names = set(_PERCENT.findall(text.replace("%%", "")))
    try:
        return names | {
            f"{{{name}}}" for _text, name, _spec, _how in string.Formatter().parse(text) if name is not None
        }
    except ValueError:  # A brace that is one.
        return names


def compiled(mo: Path) -> dict[str, list[str]]:
    """Return what Django reads: the translations of each text."""
    with mo.open("rb") as opened:
        catalogue = gettext.GNUTranslations(opened)._catalog  # type: ignore[attr-defined]
    found: dict[str, list[str]] = {}
    for key, text in sorted(catalogue.items(), key=str):
        found.setdefault(key[0] if isinstance(key, tuple) else key, []).append(text)
    return found


def shared_with_django(language: str) -> Iterator[tuple[str, str]]:
    """Yield the texts that Django's admin and Django itself have translated, too."""
    import django

    root = Path(django.__file__).parent
    for folder in ("contrib/admin", "conf"):
        for key, texts in compiled(root / folder / "locale" / language / "LC_MESSAGES" / "django.mo").items():
            if key and len(texts) == 1:
                yield key, texts[0]

"""What a package index shows: the README with links that work there, and where the project lives. Called by hatchling.

The package index has a page for the project's name, whatever else there is. The repository's address stands in
pyproject.toml, as `repository`: while it is empty, links to files of the repository become plain words, and no address
is made up.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

#: A link to a file of the repository: no address, no place in the same page.
_RELATIVE = re.compile(r"\[(?P<words>[^\]]*)\]\((?!https?://|mailto:|#)(?P<path>[^)\s]+)\)")


class Metadata(MetadataHookInterface):
    def update(self, metadata: dict[str, Any]) -> None:
        repository = self.config.get("repository", "").rstrip("/")
        readme = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": readable(readme, repository)}
        metadata["urls"] = index_pages(metadata["name"]) | (addresses(repository) if repository else {})


def readable(text: str, repository: str) -> str:
    """Return the text with absolute links to the repository's files, or with their words alone."""
    link = rf"[\g<words>]({repository}/blob/HEAD/\g<path>)" if repository else r"\g<words>"
    return _RELATIVE.sub(link, text)


def index_pages(name: str) -> dict[str, str]:
    """Return where `pip install NAME` takes it from: the page that shows this metadata, and its releases."""
    page = f"https://pypi.org/project/{name}/"
    return {"Package": page, "Releases": f"{page}#history"}


def addresses(repository: str) -> dict[str, str]:
    return {
        "Homepage": repository,
        "Documentation": f"{repository}/blob/HEAD/docs/index.md",
        "Changelog": f"{repository}/blob/HEAD/CHANGELOG.md",
        "Source": repository,
        "Issues": f"{repository}/issues",
    }

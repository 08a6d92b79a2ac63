"""What axe-core finds on a page, within what is ours."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any

from .chromium import PATIENCE, Visitor

#: Faults of these keep somebody out.
GRAVE = ("serious", "critical")
#: Parts that are drawn by Django's own templates, which we neither write nor style.
DJANGOS: Sequence[str] = ("#changelist-search", "#toggle-nav-sidebar")
#: Of a long table, a chart or a list of choices the rest is like its beginning.
ALIKE: Sequence[str] = ("tbody tr:nth-child(n+31)", ".canx-line:nth-child(n+31)", "li:nth-child(n+31)")

#: Not without end: nothing else limits how long a page may take to answer.
_RUN = """async ({context, options, patience}) => {
    const late = new Promise((_done, fail) => setTimeout(() => fail(new Error("axe is not done")), patience));
    const found = await Promise.race([axe.run(context, options), late]);
    return found.violations.flatMap(({id, impact, nodes}) => nodes.map(
        ({target, failureSummary}) => ({id, impact, where: target.join(" "), why: failureSummary})));
}"""


def faults(visitor: Visitor, *rules: str, theirs: Sequence[str] = DJANGOS) -> list[str]:
    """Return a line for each fault of the open page; `rules`: only by these; `theirs`: parts that are not ours."""
    context = {"include": [["#content"]], "exclude": [[part] for part in (*theirs, *ALIKE)]}
    # Preloading would fetch style sheets, which the policy refuses.
    options: dict[str, Any] = {"preload": False, "iframes": False, "resultTypes": ["violations"]}
    if rules:
        options["runOnly"] = list(rules)

    def run(page: Any) -> list[dict[str, str]]:
        if not page.evaluate("typeof axe === 'object'"):
            session = page.context.new_cdp_session(page)
            session.send("Runtime.evaluate", {"expression": _source()})
            session.detach()
        found: list[dict[str, str]] = page.evaluate(
            _RUN, {"context": context, "options": options, "patience": PATIENCE}
        )
        return found

    return [
        f"{each['id']} ({each['impact']}) at {each['where']}: {' '.join(each['why'].split())}"
        for each in visitor.do(run)
        if each["impact"] in GRAVE
    ]


@cache
def _source() -> str:
    return (resources.files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")

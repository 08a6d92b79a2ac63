"""The address of a run's page in the admin: `ADMIN_URL` says where that is. Lines of the log carry it.

Worker processes need not know the project's addresses, nor serve them: so it is put together, not looked up.
"""

from __future__ import annotations

from urllib.parse import quote

from .. import conf
from ..core import naming


def of_run(run_id: object, step: object = None) -> str:
    """Return the address of a run's page, at one of its steps if that is known; empty without `ADMIN_URL`.

    The step is named twice: of a long run the page is the one that has it, and there its row is jumped to.
    """
    base = conf.get().admin_url
    if base is None or run_id is None:
        return ""
    at = ""
    if isinstance(step, str) and step:
        at = f"?step={quote(step, safe='')}#{quote(naming.anchor(step), safe='')}"
    return f"{base.rstrip('/')}/canx_flow/workflowrun/{run_id}/change/{at}"

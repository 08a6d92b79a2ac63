"""One SELECT of the first rows of many SELECTs that are in the same order. Used by `ready` and by `session`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

#: The order of claims.
ORDER = "ORDER BY priority DESC, id"

#: A SELECT and its parameters.
Select = tuple[str, Sequence[Any]]

_MOST = 100  # SELECTs in one UNION: SQLite takes 500


def merged(selects: Sequence[Select], most: int) -> Select:
    """Return one SELECT of the first `most` rows of all of these, each of which is in the order of claims."""
    if len(selects) == 1:
        return selects[0]
    if len(selects) > _MOST:
        parts = [selects[at : at + _MOST] for at in range(0, len(selects), _MOST)]
        return merged([merged(part, most) for part in parts], most)
    texts = [f"SELECT * FROM ({text}) part_{number}" for number, (text, _parameters) in enumerate(selects)]
    text = f"{' UNION ALL '.join(texts)} {ORDER} LIMIT {most}"
    return text, [value for _text, parameters in selects for value in parameters]

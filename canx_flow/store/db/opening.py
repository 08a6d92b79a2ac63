"""What the session of a project's connection was told while it was opened, by Django and by the project's receivers.

Kept by `lent`, which tells it again after it has taken everything else back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class Opening:
    """The opening of the session that is behind one connection."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        #: The session whose opening has come to its end, or nearly: the last receivers may be at it.
        self.session: Any = None
        #: Django replaces this list when the last receiver has been called.
        self._hooks: Any = None
        self._told: list[tuple[Any, Any]] = []
        self._told_to: Any = None

    def is_under_way(self) -> bool:
        """Return whether what is sent now is part of the opening."""
        connection = self._connection
        if connection.connection is not self.session:
            return True
        if self._hooks is not None and connection.run_on_commit is not self._hooks:
            self._hooks = None
        return self._hooks is not None

    def remember(self, statement: Any, parameters: Any) -> None:
        """Note what the session that is being opened is told."""
        session = self._connection.connection
        if session is not self._told_to:  # The one before may have been closed by user code.
            self._told_to, self._told = session, []
        self._told.append((statement, parameters))

    def end(self) -> None:
        """Note that it is open: Django calls the receivers of `connection_created` now."""
        self.session = self._connection.connection
        self._hooks = self._connection.run_on_commit

    def told(self) -> Sequence[tuple[Any, Any]]:
        """Return what the session was told, statements with their parameters."""
        return self._told if self._told_to is self.session else ()

    def forget(self) -> None:
        """Forget what it was told: the session is gone."""
        self._told_to, self._told = None, []

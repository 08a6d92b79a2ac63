"""What follows the caller's commit: telling workers, waking a receiver, announcing an end. Called by `client`.

The workers' sweep does all of it again sooner or later, so what fails here fails for nobody: not for the caller, whose
work is stored, and not for the caller's own hooks, which come after ours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db import Error, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from .. import logs

logger = logs.logger("canx_flow.telling")


def after_commit(alias: str, function: Callable[..., object], *arguments: Any) -> None:
    """Call `function` once the caller's transaction on `alias` has committed; at once where none is open.

    Never where the caller commits by hand, without `atomic`: Django does not learn of that, and the workers' polls do.
    Only a request to end the process, which a signal handler may raise anywhere, gets through to the caller.
    """

    if _commits_by_hand(connections[alias]):
        return

    # A function, not a partial: Django asks a hook that fails for its __qualname__.
    def follow() -> None:
        try:
            function(*arguments)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - the engine's own, which leave an activation, included
            _tell_of(function, error)

    transaction.on_commit(follow, using=alias, robust=True)


def _commits_by_hand(connection: BaseDatabaseWrapper) -> bool:
    """Whether autocommit is off; an `atomic` block is then a savepoint, which commits nothing at its end."""
    if connection.in_atomic_block:
        return not connection.commit_on_exit
    return not connection.get_autocommit()


def _tell_of(function: Callable[..., object], error: BaseException) -> None:
    """A database that is away is no news to the caller."""
    name = function.__name__.strip("_")
    if isinstance(error, Error):
        logger.debug("%s after a commit is left to the workers: %s", name, error)
    else:
        logger.error("%s after a commit broke; the workers do it", name, exc_info=error)

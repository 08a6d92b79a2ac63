"""What follows the caller's commit: telling workers, waking a receiver, announcing an end. Called by `client`.

The workers' sweep does all of it again sooner or later. So what fails here fails neither the caller, whose work is
stored, nor the caller's own hooks, which come after ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from django.db import Error, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from ..observe import announce, facts


class _Followup:
    """A call that follows a commit; made once, by Django or by `follow_now`."""

    def __init__(self, function: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        self._function = function
        self._arguments = arguments
        self.is_due = True
        # Django asks a hook that fails for its name; an object of a class has none of its own.
        self.__qualname__ = function.__qualname__

    def __call__(self) -> None:
        """Call it, if it is due. Only a request to end the process, as a signal handler raises it, gets through."""
        if not self.is_due:
            return
        self.is_due = False
        try:
            self._function(*self._arguments)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - the engine's own, which leave an activation, included
            _tell_of(self._function, error)


def after_commit(alias: str, function: Callable[..., object], *arguments: Any) -> None:
    """Call `function` once the caller's transaction on `alias` has committed; at once where none is open.

    Never where the caller commits by hand, without `atomic`: Django does not learn of that, and the workers' polls do.
    """
    if _commits_by_hand(connections[alias]):
        return
    transaction.on_commit(_Followup(function, arguments), using=alias, robust=True)


def follow_now(alias: str) -> None:
    """Do what waits for the commit of the open transaction on `alias`, and let it wait no more.

    For the transaction of a TestCase, which never commits. The hooks stay where they are, as
    `captureOnCommitCallbacks` counts them; those of the project are its own matter.
    """
    while due := [hook for hook in _hooks(alias) if hook.is_due]:
        for hook in due:
            hook()


def _hooks(alias: str) -> Iterator[_Followup]:
    """Return ours, among those that wait for the commit."""
    return (hook for entry in connections[alias].run_on_commit if isinstance(hook := entry[1], _Followup))


def _commits_by_hand(connection: BaseDatabaseWrapper) -> bool:
    """Return whether autocommit is off; an `atomic` block is then a savepoint, which commits nothing at its end."""
    if connection.in_atomic_block:
        return not connection.commit_on_exit
    return not connection.get_autocommit()


def _tell_of(function: Callable[..., object], error: BaseException) -> None:
    """Announce what has failed; a database that is away is announced as that, for the caller knows it already."""
    name = function.__name__.strip("_")
    if isinstance(error, Error):
        announce(facts.AfterCommitSkipped(name, error))
    else:
        announce(facts.AfterCommitFailed(name, error))

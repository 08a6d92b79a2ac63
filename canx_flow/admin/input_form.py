"""The form by which a run is forked with its input as it was, or edited.

What is typed may name those classes of the project's alone that the run's own input has.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any

from django import forms
from django.contrib.admin.widgets import AdminTextInputWidget
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ..core import codec, registry
from ..exceptions import CanxFlowError, NotDecodable
from ..insight.names import RunNames
from ..insight.redaction import reveal
from ..models import WorkflowRun
from .call_form import CallForm, classes


class InputForm(CallForm):
    """Arguments, keywords, version, queue and a reason. Empty input means the run's own."""

    field_order = ("from_step", "arguments", "keywords", "version", "queue", "reason")

    from_step = forms.CharField(widget=forms.HiddenInput)
    version = forms.ChoiceField(label=gettext_lazy("Version"), required=False)
    queue = forms.CharField(label=gettext_lazy("Queue"), required=False, max_length=100, widget=AdminTextInputWidget)

    def __init__(self, data: Any = None, *, run: WorkflowRun, from_step: str, seen: bool) -> None:
        """Ask about this run; `seen`: whether the user may see its input."""
        self.run = run
        self.own = _own_input(run) if seen else None
        super().__init__(data, runs=[run])
        self.fields["version"].choices = _versions(run)  # type: ignore[attr-defined]
        self.initial = {"from_step": from_step, "version": run.version, "queue": run.queue}
        if self.own is not None:
            self.initial |= dict(zip(("arguments", "keywords"), self.own, strict=True))
        else:
            hidden = _("It is hidden from you. Leave this empty to keep it as it is.")
            for name in ("arguments", "keywords"):
                self.fields[name].help_text = f"{self.fields[name].help_text} {hidden}"

    not_allowed = gettext_lazy("The run's own input has no {names}.")

    def allowed(self) -> Collection[str]:
        """Return the classes that the run's own input has."""
        return classes(json.loads(self.run.arguments))

    def clean(self) -> dict[str, Any]:
        """Check the input against the signature of the version's function."""
        cleaned = super().clean() or self.cleaned_data
        if self.errors:
            return cleaned
        known = registry.get(self.run.workflow, cleaned["version"])
        given = self.given
        if known is not None and given is not None and (misfit := known.misfit(*given)):
            self.add_error("arguments", misfit)
        return cleaned

    @property
    def given(self) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """What the fork is to be called with; `None` for the run's own input."""
        arguments, keywords = self.cleaned_data.get("arguments"), self.cleaned_data.get("keywords")
        if not self._is_edited():
            return None
        own = self._stored()
        return (
            tuple(own[0] if arguments is None else arguments),
            dict(own[1] if keywords is None else keywords),
        )

    def _is_edited(self) -> bool:
        """Tell whether anything was typed that is not the run's own input as it was shown."""
        shown = dict(zip(("arguments", "keywords"), self.own or ("", ""), strict=True))
        return any(
            self.cleaned_data.get(name) is not None and _lines(self.data.get(name, "")) != _lines(shown[name])
            for name in shown
        )

    def _stored(self) -> Sequence[Any]:
        try:
            found: Sequence[Any] = codec.loads(self.run.arguments)
        except NotDecodable:
            return [[], {}]
        return found


def _lines(text: str) -> str:
    return text.replace("\r\n", "\n").strip()


def _own_input(run: WorkflowRun) -> tuple[str, str] | None:
    """Return the run's input as JSON; `None` where `REDACT` hides some of it, for that would be taken for the input."""
    found = reveal(run.arguments, RunNames(run.workflow).arguments)
    try:
        if found.note or codec.dumps(found.value, "it") != codec.dumps(codec.loads(run.arguments), "it"):
            return None
        arguments, keywords = json.loads(run.arguments)
    except (CanxFlowError, ValueError, TypeError):
        return None
    return json.dumps(arguments, indent=2, ensure_ascii=False), json.dumps(keywords, indent=2, ensure_ascii=False)


def _versions(run: WorkflowRun) -> list[tuple[str, str]]:
    """Return the versions that the code here has, and the run's own."""
    known = [version for name, version in registry.identities() if name == run.workflow]
    return [(version, version or _("(without a version)")) for version in dict.fromkeys([run.version, *known])]

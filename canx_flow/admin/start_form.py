"""The form by which a run is started: its input as JSON, checked against what the workflow takes.

What is typed may name those classes of the project's alone that the annotations of the workflow's function name.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any
from uuid import uuid4

from django import forms
from django.contrib.admin.widgets import AdminTextInputWidget
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ..core import codec, hints, registry
from ..core.definition import Definition
from ..core.options import HIGHEST_PRIORITY, LOWEST_PRIORITY, StartOptions
from .call_form import CallForm

#: How what is said of a field begins.
_ABOUT = re.compile(r"(?:a )?(key|queue|delay)\b")
_PLAIN = {"spellcheck": "false", "autocomplete": "off"}


class StartForm(CallForm):
    """Version, input, key, queue, priority, delay and a reason. What is left empty is as the workflow declares."""

    field_order = ("version", "arguments", "keywords", "key", "queue", "priority", "delay", "reason")

    version = forms.ChoiceField(label=gettext_lazy("Version"), required=False)
    key = forms.CharField(
        label=gettext_lazy("Key"),
        help_text=gettext_lazy("Of the runs of a workflow one has it: started again with the same one, none is new."),
        required=False,
        max_length=255,
        strip=False,
        widget=AdminTextInputWidget(attrs=_PLAIN),
    )
    queue = forms.CharField(
        label=gettext_lazy("Queue"), required=False, max_length=100, widget=AdminTextInputWidget(attrs=_PLAIN)
    )
    priority = forms.IntegerField(
        label=gettext_lazy("Priority"),
        required=False,
        min_value=LOWEST_PRIORITY,
        max_value=HIGHEST_PRIORITY,
    )
    delay = forms.DurationField(
        label=gettext_lazy("Delay"),
        help_text=gettext_lazy("Seconds, or days and hours:minutes:seconds, as in 1 12:30:00. Empty: at once."),
        required=False,
        widget=AdminTextInputWidget(attrs=_PLAIN),
    )

    not_allowed = gettext_lazy("The annotations of the workflow's function name no {names}.")

    def __init__(self, data: Any = None, *, name: str) -> None:
        """Ask about a new run of the workflow of this name, which the code here knows."""
        self.newest = registry.resolve(name)
        super().__init__(data)
        versions = [version for known, version in registry.identities() if known == name]
        self.fields["version"].choices = [(each, each or _("(without a version)")) for each in versions]  # type: ignore[attr-defined]
        self.initial = {"version": self.newest.version, "key": str(uuid4())}

    def arrange(self) -> None:
        """Say what the workflow takes, and what it declares itself."""
        takes = _("It takes {arguments}.").format(arguments=self.newest.takes)
        self.fields["arguments"].help_text = f"{self.fields['arguments'].help_text} {takes}"
        otherwise = _("Empty: as the workflow says, which is {value}.")
        self.fields["queue"].help_text = otherwise.format(value=self.newest.queue)
        self.fields["priority"].help_text = otherwise.format(value=self.newest.priority)
        del self.fields["reason"].widget.attrs["autofocus"]  # It stands on a page that says much else.

    @property
    def workflow(self) -> Definition:
        """The version that is chosen."""
        chosen = registry.get(self.newest.name, self.data.get("version", "")) if self.is_bound else None
        return chosen or self.newest

    def allowed(self) -> Collection[str]:
        """Return the classes that the function's annotations name."""
        return {name for cls in hints.classes(self.workflow.function) if (name := codec.name_of(cls)) is not None}

    def clean(self) -> dict[str, Any]:
        """Check the input against the signature of the version's function."""
        cleaned = super().clean() or self.cleaned_data
        if not self.errors and (misfit := self.workflow.misfit(*self.call)):
            self.add_error("arguments", misfit)
        return cleaned

    @property
    def call(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What the function is called with."""
        return tuple(self.cleaned_data["arguments"] or ()), dict(self.cleaned_data["keywords"] or {})

    @property
    def start_options(self) -> StartOptions:
        """The options of the start; of a key that is taken it is said so."""
        given = self.cleaned_data
        return StartOptions(
            key=given["key"] or None, on_conflict="reject", queue=given["queue"] or None,
            priority=given["priority"], delay=given["delay"],
        )  # fmt: skip

    def refused(self, exc: Exception) -> None:
        """Put what `client` has refused to the field that it names."""
        about = _ABOUT.match(str(exc))
        if about is None:
            super().refused(exc)
        else:
            self.add_error(about[1], str(exc))

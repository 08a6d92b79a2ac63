"""Arguments and keywords as two fields of JSON, in the text in which input is stored, so that a date is one.

What is typed may hold the types that JSON and the codec know, and of the project's own classes those alone that the
form allows: stored text names a class, and people must not choose which one is made. `input_form` forks a run with
these, `start_form` starts one.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from django import forms
from django.contrib.admin.widgets import AdminTextareaWidget
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ..core import codec
from ..exceptions import CanxFlowError, NotDecodable
from .verbs import ReasonForm

#: What is said of JSON that Python does not read or walk to its end.
TOO_DEEP = gettext_lazy("This is nested too deeply.")
#: The tags by which stored text names a class of the project's.
_CLASSES = ("$enum", "$flag", "$dataclass")
_AREA = {"rows": 6, "spellcheck": "false", "autocomplete": "off", "class": "canx-json"}


class CallForm(ReasonForm):
    """Arguments and keywords; `None` for a field that was left empty."""

    arguments = forms.CharField(
        label=gettext_lazy("Arguments"),
        help_text=gettext_lazy("A JSON list."),
        required=False,
        strip=True,
        widget=AdminTextareaWidget(attrs=_AREA),
    )
    keywords = forms.CharField(
        label=gettext_lazy("Keyword arguments"),
        help_text=gettext_lazy("A JSON object."),
        required=False,
        strip=True,
        widget=AdminTextareaWidget(attrs=_AREA),
    )

    #: What is said of a class that is not allowed.
    not_allowed: Any = ""

    def allowed(self) -> Collection[str]:
        """Return the classes of the project's that may be named, each as stored text names it."""
        return ()

    def clean_arguments(self) -> Any:
        """Return the list that was typed, decoded; `None` for an empty field."""
        return self._read("arguments", list, _('This must be a JSON list, such as [7, "ada"].'))

    def clean_keywords(self) -> Any:
        """Return the dict that was typed, decoded; `None` for an empty field."""
        return self._read("keywords", dict, _('This must be a JSON object, such as {"express": true}.'))

    def _read(self, name: str, kind: type, otherwise: str) -> Any:
        text = self.cleaned_data[name]
        if not text:
            return None
        try:
            parsed = json.loads(text)
        except ValueError as exc:
            raise forms.ValidationError(_("This is no JSON: {error}").format(error=exc)) from None
        except RecursionError:
            raise forms.ValidationError(str(TOO_DEEP)) from None
        if type(parsed) is not kind:
            raise forms.ValidationError(otherwise)
        try:
            if strange := classes(parsed) - set(self.allowed()):
                raise forms.ValidationError(str(self.not_allowed).format(names=", ".join(sorted(strange))))
            return codec.loads(json.dumps(parsed))
        except (NotDecodable, ValueError) as exc:
            raise forms.ValidationError(str(exc)) from None
        except RecursionError:  # Which of these gives up first depends on the version of Python.
            raise forms.ValidationError(str(TOO_DEEP)) from None

    def refused(self, exc: Exception) -> None:
        """Put what `client` has refused to the field that it is about."""
        about = "arguments" if isinstance(exc, (TypeError, CanxFlowError)) else None
        self.add_error(about, str(exc))


def classes(parsed: Any) -> set[str]:
    """Return the classes of the project's that tags in this JSON name."""
    if isinstance(parsed, list):
        return {name for item in parsed for name in classes(item)}
    if not isinstance(parsed, dict):
        return set()
    own = {str(value[0]) for key, value in parsed.items() if key in _CLASSES and isinstance(value, list) and value}
    custom = {key for key in parsed if key.startswith("$:")}
    return own | custom | {name for item in parsed.values() for name in classes(item)}

"""Write into docs/reference what the code says of its public names: their signatures and docstrings.

    python scripts/write_reference.py            write the pages
    python scripts/write_reference.py --check    change nothing; exit 1 and name each page that is not as it would be

So the pages can be read where no Sphinx has been, and the code has the last word. What stands between
`<!-- from the code: canx_flow.Retry -->` and `<!-- end -->` is written here; the rest of a page is left alone. A name
is a dotted path, and may be followed by `fields` (a class, shown with its fields) or `errors` (a module's, as a list).
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
import textwrap
import typing
from pathlib import Path
from pydoc import locate
from typing import Any

import django
from django.conf import settings

PAGES = Path(__file__).resolve().parent.parent / "docs" / "reference"
WIDTH = 100

_PLACE = re.compile(
    r"^<!-- from the code: (?P<name>[\w.]+)(?: (?P<how>\w+))? -->\n(?P<written>.*?)^<!-- end -->\n",
    re.MULTILINE | re.DOTALL,
)


def main(*arguments: str) -> int:
    _configure()
    wrong = []
    for path in sorted(PAGES.glob("*.md")):
        text = path.read_text(encoding="utf-8")
        true = _PLACE.sub(_written, text)
        if true != text:
            wrong.append(path.name)
            if "--check" not in arguments:
                path.write_text(true, encoding="utf-8")
    print(f"{'not true' if '--check' in arguments else 'written'}: {', '.join(wrong) or 'none'}")
    return 1 if wrong and "--check" in arguments else 0


def _configure() -> None:
    """Set up as little of a project as the models need to be imported."""
    settings.configure(
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        INSTALLED_APPS=["django.contrib.contenttypes", "canx_flow"],
        USE_TZ=True,
    )
    django.setup()


def _written(place: re.Match[str]) -> str:
    how, name = place["how"], place["name"]
    body = _errors(locate(name)) if how == "errors" else _entry(name, fields=how == "fields")
    begin = place[0].partition("\n")[0]
    return f"{begin}\n{body}\n<!-- end -->\n"


def _entry(name: str, *, fields: bool) -> str:
    """Return a signature, and what the docstring says below it."""
    called, found = _found(name)
    text = f"```py\n{_fields(found) if fields else _signature(called, found)}\n```"
    said = inspect.getdoc(found)
    return f"{text}\n\n{said}" if said else text


def _errors(module: Any) -> str:
    """Yield every error of a module, in its order: what it is made of, and what it means."""
    found = [value for value in vars(module).values() if inspect.isclass(value) and issubclass(value, Exception)]
    return "\n".join(map(_error, found))


def _error(found: Any) -> str:
    signature = _parameters(found) if "__init__" in vars(found) else ""
    bases = [base.__name__ for base in found.__bases__ if base.__name__ not in {"CanxFlowError", "Exception"}]
    kind = "".join(f", a `{base}`" for base in bases)
    said = " ".join(inspect.getdoc(found).split())
    return "\n".join(textwrap.wrap(f"- `{found.__name__}{signature}`{kind}: {said}", 120, subsequent_indent="  "))


def _found(name: str) -> tuple[str, Any]:
    """Return the name that people use, with its class, and the object itself."""
    path, _, attribute = name.rpartition(".")
    owner = locate(path)
    called = f"{owner.__name__}.{attribute}" if inspect.isclass(owner) else attribute
    return called, inspect.getattr_static(owner, attribute)


def _signature(called: str, found: Any) -> str:
    if isinstance(found, property):
        return _clean(f"{called}: {inspect.signature(found.fget).return_annotation}")
    if inspect.isclass(found):
        return _folded(f"class {called}", found) if dataclasses.is_dataclass(found) else f"class {called}"
    return _folded(f"{'async ' * inspect.iscoroutinefunction(found)}{called}", found)


def _folded(name: str, found: Any) -> str:
    """Write one line, or one for each parameter."""
    line = name + _parameters(found)
    if len(line) <= WIDTH:
        return line
    signature = _shown(found)
    single = str(signature.replace(return_annotation=inspect.Signature.empty))[1:-1]
    parts = "".join(f"    {part},\n" for part in re.split(r", (?=[\w*/]+(?:[:=,]|$))", single))
    returned = "" if signature.return_annotation is inspect.Signature.empty else f" -> {signature.return_annotation}"
    return _clean(f"{name}(\n{parts}){returned}")


def _parameters(found: Any) -> str:
    return _clean(str(_shown(found)))


def _shown(found: Any) -> inspect.Signature:
    """Write it without self; of what has overloads for type checkers only the names, which are the same in all."""
    signature = inspect.signature(found)
    plain = [parameter for parameter in signature.parameters.values() if parameter.name != "self"]
    if inspect.isclass(found):
        signature = signature.replace(return_annotation=inspect.Signature.empty)
    if inspect.isfunction(found) and (overloads := typing.get_overloads(found)):
        signature = signature.replace(return_annotation=inspect.Signature.empty)
        known = inspect.signature(overloads[-1]).parameters
        plain = [
            parameter.replace(annotation=inspect.Parameter.empty) for parameter in plain if parameter.name in known
        ]
    return signature.replace(parameters=plain)


def _fields(cls: Any) -> str:
    shown = [field for field in dataclasses.fields(cls) if not field.name.startswith("_")]
    return _clean("\n".join([f"class {cls.__name__}:", *(f"    {field.name}: {field.type}" for field in shown)]))


def _clean(text: str) -> str:
    """Write it as a person would: annotations are text in this package, and Python shows them quoted."""
    text = re.sub(r"(?<=: )(['\"])(.+?)\1(?=,|\)| =|$)|(?<=-> )'([^']+)'", lambda at: at[2] or at[3], text)
    text = re.sub(r"<object object at \w+>", "...", text).replace("<class 'Exception'>", "Exception")
    return text.replace("R_co", "R").replace("_random.", "random.").replace("models.Model", "Model").replace("'", '"')


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

"""Meaning of each key of a form, read from the section `Attributes:` of its docstring."""

import inspect
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from pydantic import BaseModel

_ENTRY = re.compile(r" {4}(\w+): (.*)")


@cache
def key_meanings(form: type[BaseModel]) -> Mapping[str, str]:
    """Return the meaning of each key of a form, its own and those of the forms that it extends."""
    meanings: dict[str, str] = {}
    for owner in reversed(form.__mro__):
        if issubclass(owner, BaseModel) and owner is not BaseModel:
            meanings |= _section(owner.__dict__.get("__doc__") or "")
    return {key: meanings[key] for key in form.model_fields if key in meanings}


def summary(form: type[BaseModel]) -> str:
    """Return the first paragraph of a form's docstring, on one line."""
    return " ".join(inspect.cleandoc(form.__doc__ or "").partition("\n\n")[0].split())


def forms_of(form: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """Yield a form and all forms nested in its keys, each once."""
    seen: dict[type[BaseModel], None] = {}
    waiting: list[Any] = [form]
    while waiting:
        part = waiting.pop(0)
        if isinstance(part, type) and issubclass(part, BaseModel):
            if part not in seen:
                seen[part] = None
                yield part
                waiting += [field.annotation for field in part.model_fields.values()]
        else:
            waiting += [*getattr(part, "__args__", ()), *getattr(part, "__metadata__", ())]


def _section(doc: str) -> dict[str, str]:
    section = re.search(r"^Attributes:\n((?:[ \t]+.*\n?|\n)+)", inspect.cleandoc(doc), re.MULTILINE)
    meanings: dict[str, str] = {}
    name = ""
    for line in section[1].splitlines() if section else ():
        if entry := _ENTRY.fullmatch(line):
            name = entry[1]
            meanings[name] = entry[2].strip()
        elif name and line.strip():
            meanings[name] += f" {line.strip()}"
    return meanings

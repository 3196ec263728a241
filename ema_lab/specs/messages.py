"""Validation problems in plain words, instead of the validator's own terms.

A validator names its types (tuple, dictionary), its unions (one error for each member) and their tags. A
user wrote a list, a mapping, or one key; each problem here is one sentence about that key.
"""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from ema_lab.registry.registry import unknown_name

Loc = tuple[int | str, ...]
MISSING = "missing"
_ABSENT = object()
PROBLEM = "problem"  # an error whose message is ours already
MAPPING = "must be a mapping of keys to values"
MAX_SHOWN = 100  # characters of a value in a message
_TAGS = re.compile(r".*[\[\]].*|constrained-\w+|str|int|float|bool|tuple|list|dict|[A-Z]\w*")
_KINDS = {  # of errors that say what kind of value is wanted
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be text",
    "none_required": "must be null",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "set_type": "must be a list",
    "frozen_set_type": "must be a list",
    "dict_type": MAPPING,
    "mapping_type": MAPPING,
    "model_type": MAPPING,
    "model_attributes_type": MAPPING,
    "dataclass_type": MAPPING,
    "is_instance_of": MAPPING,
}
_LIMITS = {
    "greater_than": "must be above {gt:g}",
    "greater_than_equal": "must be {ge:g} or more",
    "less_than": "must be below {lt:g}",
    "less_than_equal": "must be {le:g} or less",
    "too_short": "must have {min_length} or more entries",
    "too_long": "must have at most {max_length} entries",
    "string_too_short": "must not be empty",
}
_FORMS = {
    r"^[A-Za-z0-9][A-Za-z0-9_.-]*$": "must be letters, digits, _, . and -, with a letter or digit first",
    r"^[A-Za-z0-9][A-Za-z0-9_-]*$": "must be letters, digits, _ and -, with a letter or digit first",
    r"^(torchvision|timm)/\w[\w.-]*$": "must be torchvision/NAME or timm/NAME; a file is named by `file`",
    r"^([0-9a-f]{8}|[0-9a-f]{64})?$": "must be the first 8 or all 64 digits of a SHA-256",
    r"^([0-9]{4}\.[0-9]{4,5}|[a-z.-]+/[0-9]{7})$": "must be an arXiv number, such as 2305.13563",
    r"^(auto|[^/:\s]+:\d+)$": "must be auto or HOST:PORT",
    r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$": "must be MODULE:NAME",
    r"^ema_lab\.[\w.]+:[A-Za-z_]\w*$": "must be MODULE:NAME of this package",
    r"^[a-z][a-z0-9]*(_[a-z0-9]+)*$": "must be small letters and digits, with _ between words, such as top1",
}


def plain_errors(
    items: Sequence[ErrorDetails], known: Iterable[str], value: object, form: type[BaseModel] | None
) -> Iterator[tuple[Loc, str, Any]]:
    """Yield location, message and input of each problem; the message `MISSING` stands for a missing key.

    Args:
        items: Errors of the validator, or problems that were made plain before.
        known: Keys of the form, to suggest the nearest for an unknown one.
        value: The value that was validated, which tells keys from names of a union's members.
        form: Form of the value, whose annotations list the choices of a missing `kind` or `name`.
    """
    locations = [item["loc"] for item in items]
    found: dict[Loc, list[ErrorDetails]] = {}
    for item in items:
        size = len(item["loc"])
        if item["type"] == "too_short" and any(p[:size] == item["loc"] and len(p) > size for p in locations):
            continue  # the validator counts an invalid item as missing, but the item has its own error
        found.setdefault(_key_path(item, value), []).append(item)
    for loc, here in found.items():
        below = any(other[: len(loc)] == loc and len(other) > len(loc) for other in found)
        kinds = [item for item in here if _is_kind(item)]
        right = [item for item in here if item not in kinds]
        if below and not right and all(len(item["loc"]) > len(loc) for item in kinds):
            continue  # another member of the union has the right kind, and problems of its own
        if len(right) == len(here) or len(here) == 1:
            yield from (_message(item, loc, known, form) for item in here)
        elif right:
            yield from (_message(item, loc, known, form) for item in right)
        else:
            yield loc, _alternatives(kinds), kinds[0]["input"]


def quoted(value: object) -> str:
    """Return a value in the form for messages, shortened."""
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 3]}..."


def nearest(name: object, names: Iterable[str]) -> str:
    """Return a "did you mean" question with the nearest of some names, or "" if none is near."""
    close = difflib.get_close_matches(name, list(names), n=1) if isinstance(name, str) else []
    return f"did you mean {close[0]!r}?" if close else ""


def _key_path(item: ErrorDetails, value: object) -> Loc:
    """Return the keys of an error's location, without the names of a union's members."""
    loc = item["loc"]
    if not isinstance(value, Mapping | list | tuple):
        return loc
    path: Loc = ()
    for number, part in enumerate(loc):
        is_last = number == len(loc) - 1
        below = _below(value, part)
        if below is _ABSENT and not (is_last and not _is_tag(item, part)):
            continue
        if not is_last and _is_chosen(value, part) and _below(below, loc[number + 1]) is _ABSENT:
            continue
        path = (*path, part)
        value = below
    return path


def _below(value: object, part: int | str) -> object:
    """Return the item of a mapping or a list, or `_ABSENT`."""
    if isinstance(value, Mapping):
        return value.get(part, _ABSENT)
    is_item = isinstance(value, list | tuple) and isinstance(part, int) and part < len(value)
    return value[part] if is_item else _ABSENT  # type: ignore[index]


def _is_tag(item: ErrorDetails, part: int | str) -> bool:
    """Return whether the last part of a location, which is no key of the value, names a union's member."""
    return (
        item["type"] != MISSING and isinstance(part, str) and bool(_TAGS.fullmatch(part)) and part != "[key]"
    )


def _is_chosen(value: object, part: int | str) -> bool:
    """Return whether a part is the choice that a mapping makes by its `kind`, `name` or `type`."""
    return isinstance(value, Mapping) and part in [value.get(key) for key in ("kind", "name", "type")]


def _is_kind(item: ErrorDetails) -> bool:
    if item["type"] == PROBLEM:  # of a form inside, which has made it plain
        return item["msg"].startswith(MAPPING)
    return item["type"] in _KINDS or item["type"] == "literal_error"


def _message(
    item: ErrorDetails, loc: Loc, known: Iterable[str], form: type[BaseModel] | None
) -> tuple[Loc, str, Any]:
    """Return location, message and input of one error."""
    kind, got, context = item["type"], item["input"], item.get("ctx", {})
    if kind == MISSING:
        return loc, MISSING, got
    if kind == PROBLEM:
        return loc, item["msg"], got
    if kind == "extra_forbidden" and len(loc) == 1:
        return loc, unknown_name("key", str(loc[0]), known), got
    if kind in {"union_tag_invalid", "union_tag_not_found"}:
        key = str(context["discriminator"]).strip("'")
        return (*loc, key), _choice(key, loc, context, form), got
    if kind == "string_pattern_mismatch":
        rule = _FORMS.get(context["pattern"], f"must have the form {context['pattern']}")
        return loc, f"{rule}, got {quoted(got)}", got
    if kind in _LIMITS:
        rule = _LIMITS[kind].format(**context).replace("1 or more entries", "an entry")
        return loc, f"{rule}, got {quoted(got)}", got
    if _is_kind(item):
        return loc, _alternatives([item]), got
    text = item["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return loc, f"{text[:1].lower()}{text[1:]}, got {quoted(got)}", got


def _alternatives(items: Sequence[ErrorDetails]) -> str:
    """Return one sentence on what kinds of value are possible."""
    rules = list(dict.fromkeys(rule for item in items for rule in _rules(item)))
    got = items[0]["input"]
    names = [name for item in items for name in _names(item)]
    hint = nearest(got, names)
    text = f"must be {', '.join(rules[:-1])}{' or ' if rules[1:] else ''}{rules[-1]}, got {quoted(got)}"
    return text + (f"; {hint}" if hint else _advice(items, got))


def _rules(item: ErrorDetails) -> list[str]:
    if item["type"] == "literal_error":
        return re.split(r", | or ", item["ctx"]["expected"])
    return [_KINDS.get(item["type"], MAPPING).removeprefix("must be ")]


def _names(item: ErrorDetails) -> list[str]:
    return re.findall(r"'([^']*)'", item["ctx"]["expected"]) if item["type"] == "literal_error" else []


def _advice(items: Sequence[ErrorDetails], got: object) -> str:
    """Return advice on writing a value of the right kind; empty without one."""
    kinds = {_KINDS.get(item["type"], "") for item in items}
    if kinds == {"must be a list"} and isinstance(got, str | int) and not isinstance(got, bool):
        return f": write [{got}]"
    if kinds == {"must be text"} and isinstance(got, str | int | float | bool):
        return ": write it in quotes"
    if kinds <= {"must be a number", "must be a whole number"} and _is_number(got):
        return ": write it without quotes"
    return ""


def _is_number(text: object) -> bool:
    return isinstance(text, str) and bool(re.fullmatch(r"[-+]?\d+(\.\d*)?([eE][-+]?\d+)?", text))


def _choice(key: str, loc: Loc, context: Mapping[str, Any], form: type[BaseModel] | None) -> str:
    """Return the message for a mapping whose `kind` or `name` is unknown or missing."""
    owner = next((part for part in reversed(loc) if isinstance(part, str)), "entry")
    noun = f"{'kind of ' if key == 'kind' else ''}{owner.removesuffix('s')}"
    if "tag" in context:
        return unknown_name(noun, context["tag"], re.findall(r"'([^']*)'", context["expected_tags"]))
    names = _tags(form.model_fields[str(loc[0])], key) if form and loc and loc[0] in form.model_fields else []
    return f"is missing: it names the {noun}" + (f", one of {', '.join(names)}" if names else "")


def _tags(field: Any, key: str) -> list[str]:
    """Return the values of `key` that the members of a union take."""
    waiting, names = [field.annotation], list[str]()
    while waiting:
        part = waiting.pop(0)
        if isinstance(part, type) and issubclass(part, BaseModel):
            names += (
                [str(one) for one in get_args(part.model_fields[key].annotation)]
                if key in part.model_fields
                else []
            )
        else:
            waiting += get_args(part)
    return names

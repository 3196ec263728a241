"""Changes to an unvalidated spec (plain dictionaries): dotted keys and named recipes."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import ValidationError

from ema_lab.errors import DefinitionError, Problem, SpecError
from ema_lab.specs.definition import find_definition
from ema_lab.specs.document import KeyPath, read_document
from ema_lab.specs.recipe import RecipeSpec
from ema_lab.specs.report import require_file_name
from ema_lab.specs.strict import Spec

Tree = Mapping[str, Any]


@dataclass(frozen=True)
class Change:
    """New value of a dotted key, with its key path in the definition file."""

    keys: tuple[str, ...]
    value: Any
    key_path: KeyPath


def dotted_change(key: str, value: Any, key_path: KeyPath) -> Change:
    """Return the change of a line `a.b.c: value`."""
    return Change(tuple(key.split(".")), value, key_path)


def apply_change(tree: Tree, keys: tuple[str, ...], value: Any) -> dict[str, Any]:
    """Return a copy of `tree` with one value set. A string on the way becomes `{name: string}`.

    Unchanged subtrees are shared with the original.

    Raises:
        SpecError: If a value on the way is neither a mapping nor a string.
    """
    head, *rest = keys
    if not rest:
        return {**tree, head: value}
    below = tree.get(head, {})
    if isinstance(below, str):
        below = {"name": below}
    if not isinstance(below, Mapping):
        raise SpecError(f"{head} is {below!r}, which has no key {rest[0]!r}")
    return {**tree, head: apply_change(below, tuple(rest), value)}


def with_recipe(tree: Tree) -> Tree:
    """Return `tree` with `recipe.use` expanded: the named recipe, changed by the other keys of `recipe`."""
    recipe = tree.get("recipe")
    if not isinstance(recipe, Mapping) or "use" not in recipe:
        return tree
    expanded: dict[str, Any] = dict(named_recipe(str(recipe["use"])))
    for key, value in recipe.items():
        if key != "use":
            expanded = apply_change(expanded, tuple(key.split(".")), value)
    return {**tree, "recipe": expanded}


class RecipeFile(Spec):
    """File of a named recipe: `ablations/recipes/NAME.yaml`."""

    name: str
    description: str
    recipe: RecipeSpec


@cache
def named_recipe(name: str) -> Tree:
    """Return the keys of a named recipe as written in its file.

    Raises:
        UnknownNameError: If no recipe has this name.
        DefinitionError: If the file is invalid.
    """
    document = read_document(find_definition("ablations/recipes", name))
    try:
        file = RecipeFile.model_validate(document.value)
    except ValidationError as error:
        raise DefinitionError(document.problems(error)) from None
    require_file_name(document, file.name)
    keys: Tree = document.value["recipe"]
    return keys


def nested_problem(where: str, error: SpecError) -> list[Problem]:
    """Return the problems of an error raised while reading a nested definition."""
    return list(error.problems) if isinstance(error, DefinitionError) else [Problem(where, str(error))]

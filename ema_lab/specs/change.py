"""Changes to a spec that is still plain data: dotted keys and named recipes."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import ValidationError

from ema_lab.errors import DefinitionError, Problem, SpecError
from ema_lab.specs.definition import find_definition
from ema_lab.specs.document import Place, read_document
from ema_lab.specs.recipe import RecipeSpec
from ema_lab.specs.report import require_file_name
from ema_lab.specs.strict import Spec

Tree = Mapping[str, Any]


@dataclass(frozen=True)
class Change:
    """A value for a dotted key, and the place in the file that asks for it."""

    keys: tuple[str, ...]
    value: Any
    place: Place


def dotted(key: str, value: Any, place: Place) -> Change:
    """Return the change that a line `a.b.c: value` asks for."""
    return Change(tuple(key.split(".")), value, place)


def apply_change(tree: Tree, keys: tuple[str, ...], value: Any) -> dict[str, Any]:
    """Return `tree` with one value set; a name on the way becomes `{name: ...}`, others stay shared."""
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
    """Return `tree` with `recipe.use` expanded: the named recipe, then the other keys of `recipe`."""
    recipe = tree.get("recipe")
    if not isinstance(recipe, Mapping) or "use" not in recipe:
        return tree
    expanded: dict[str, Any] = dict(named_recipe(str(recipe["use"])))
    for key, value in recipe.items():
        if key != "use":
            expanded = apply_change(expanded, tuple(key.split(".")), value)
    return {**tree, "recipe": expanded}


class RecipeFile(Spec):
    """A named recipe: `ablations/recipes/NAME.yaml`."""

    name: str
    description: str
    recipe: RecipeSpec


@cache
def named_recipe(name: str) -> Tree:
    """Return a recipe's keys as they are written in its file."""
    document = read_document(find_definition("ablations/recipes", name))
    try:
        file = RecipeFile.model_validate(document.value)
    except ValidationError as error:
        raise DefinitionError(document.problems(error)) from None
    require_file_name(document, file.name)
    keys: Tree = document.value["recipe"]
    return keys


def nested_problem(where: str, error: SpecError) -> list[Problem]:
    """Return the problems of an error met while reading another definition."""
    return list(error.problems) if isinstance(error, DefinitionError) else [Problem(where, str(error))]

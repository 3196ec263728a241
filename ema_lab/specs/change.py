"""Changes to an unvalidated spec (plain dictionaries): dotted keys and named recipes."""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ema_lab.errors import DefinitionError, Problem, SpecError
from ema_lab.specs.dataset import dataset_facts
from ema_lab.specs.definition import find_definition
from ema_lab.specs.document import KeyPath, read_document, require_file_name
from ema_lab.specs.recipe import RecipeSpec
from ema_lab.specs.strict import Spec, invalid

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
    """Return `tree` with its named recipe expanded: `recipe: NAME`, or `recipe.use` beside overriding keys.

    An override is a dotted key, such as `optimizer.lr: 0.05`, or a whole value.

    Raises:
        SpecError: If no recipe has the name, or an override leaves an optimizer or a schedule without a name.
    """
    recipe = tree.get("recipe")
    if isinstance(recipe, str):
        recipe = {"use": recipe}
    if not isinstance(recipe, Mapping) or "use" not in recipe:
        return tree
    expanded: dict[str, Any] = dict(named_recipe(str(recipe["use"])))
    for key, value in recipe.items():
        if key != "use":
            _refuse_nameless(str(recipe["use"]), expanded, key, value)
            expanded = apply_change(expanded, tuple(key.split(".")), value)
    return {**tree, "recipe": expanded}


class RecipeError(SpecError):
    """Override of a named recipe that does not fit it. `key`: the key of `recipe` that is wrong."""

    def __init__(self, message: str, key: str) -> None:
        super().__init__(message)
        self.key = key


def _refuse_nameless(name: str, recipe: Tree, key: str, value: object) -> None:
    """Refuse a mapping that would replace an optimizer or a schedule, and names none."""
    replaced = recipe.get(key)
    if (
        isinstance(value, Mapping)
        and "name" not in value
        and isinstance(replaced, Mapping)
        and "name" in replaced
    ):
        dotted = ", ".join(f"{key}.{part}: {_as_yaml(item)}" for part, item in value.items())
        rule = f"would replace the whole {key} of {name}; beside `use`, write {dotted or f'{key}.KEY: VALUE'}"
        raise RecipeError(f"recipe.{key}: {rule}", key)


def _as_yaml(value: object) -> str:
    return json.dumps(value) if isinstance(value, bool | int | float) or value is None else str(value)


# The recipe of a file that names none, by data set, else by task. A line never changes: run ids would.
DEFAULT_RECIPES: Mapping[str, str] = {
    "cifar10": "cifar-200",
    "cifar100": "cifar-200",
    "coco": "yolov5-v6",
    "digit_scenes": "digit-scenes",
    "digits": "digits-quick",
    "fashion_mnist": "fashion-quick",
    "imagenet": "imagenet-200",
    "synthetic": "digits-quick",
    "synthetic_scenes": "digit-scenes",
    "trees": "trees",
    "visdrone": "yolov5-v6",
    "classification": "plain-30",
    "detection": "trees",
}


def default_recipe(data: object) -> str | None:
    """Return the name of the recipe for `data`, the plain data of a data set; None if none is known."""
    name = data.get("name") if isinstance(data, Mapping) else None
    if not isinstance(name, str):
        return None
    with suppress(SpecError):
        return DEFAULT_RECIPES.get(name) or DEFAULT_RECIPES.get(dataset_facts(name, {}).task)
    return None


def with_given_recipe(value: Any) -> Any:
    """Return the plain data of a run spec with its recipe in full: named, or left to the data set.

    Raises:
        ValidationError: If the recipe cannot be expanded.
    """
    if not isinstance(value, Mapping):
        return value
    if "recipe" not in value and (name := default_recipe(value.get("data"))) is not None:
        value = {**value, "recipe": name}
    try:
        return with_recipe(value)
    except SpecError as error:
        raise invalid("run", str(error).removeprefix("recipe."), "recipe") from None


class RecipeFile(Spec):
    """File of a named recipe: `ablations/recipes/NAME.yaml`.

    Attributes:
        name: Name of the recipe: that of its file.
        description: Purpose of the recipe, in one sentence.
        recipe: The recipe.
    """

    name: str
    description: str
    recipe: RecipeSpec


def named_recipe(name: str) -> Tree:
    """Return the keys of a named recipe as written in its file, which is read again after a change.

    Raises:
        UnknownNameError: If no recipe has this name.
        DefinitionError: If the file is invalid.
    """
    path = find_definition("ablations/recipes", name)
    status = path.stat()
    return _read_recipe(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=256)
def _read_recipe(path: Path, _changed: int, _size: int) -> Tree:
    document = read_document(path)
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

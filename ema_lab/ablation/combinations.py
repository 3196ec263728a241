"""Run specs built from a base and changes to it, shared by ablations and sweeps."""

import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from ema_lab.errors import DefinitionError, Problem, SpecError
from ema_lab.specs.change import (
    Change,
    RecipeError,
    Tree,
    apply_change,
    default_recipe,
    nested_problem,
    with_recipe,
)
from ema_lab.specs.definition import definitions
from ema_lab.specs.document import Document, KeyPath, error_messages
from ema_lab.specs.recipe import RecipeSpec
from ema_lab.specs.run import DataSpec, ModelSpec, RunSpec
from ema_lab.specs.strict import Spec, merged

USE = ("recipe", "use")
RECIPES = "ablations/recipes"
SET = "--set"  # first part of the key path of a change that stands in no file
PARTS: Mapping[str, type[Spec]] = {"model": ModelSpec, "data": DataSpec, "recipe": RecipeSpec}


class Combine:
    """Builder of run specs: applies changes to a base and validates the result. Equal parts are cached.

    Args:
        document: File of the changes.
        base: Run spec to change, as plain data. It may name a recipe.
        key_path: Key path of the base in the file.

    Attributes:
        defaults: Names of the recipes that data sets gave to cells whose file names none, by data set.

    Raises:
        DefinitionError: If the base names an unknown recipe, or changes a named one wrongly.
    """

    def __init__(self, document: Document, base: Tree, key_path: KeyPath) -> None:
        self.document = document
        self.problems: list[Problem] = []
        self.defaults: dict[str, str] = {}
        recipe = base.get("recipe")
        self._raw_base = {**base, "recipe": {"use": recipe}} if isinstance(recipe, str) else base
        self._base_path = key_path
        self._parts: dict[tuple[str, str], Any] = {}
        try:
            self.base = with_recipe(self._raw_base)
        except SpecError as error:
            key = error.key if isinstance(error, RecipeError) else "use"
            where = document.where((*key_path, "recipe", key))
            raise DefinitionError(nested_problem(where, error)) from None

    def parts(self, changes: Sequence[Change]) -> dict[str, Any] | None:
        """Return the validated parts of the changed run spec, or None after recording their problems."""
        tree = self._changed(changes)
        if tree is None:
            return None
        parts: dict[str, Any] = {}
        messages: list[tuple[KeyPath, str]] = []
        for key, value in tree.items():
            try:
                parts[key] = self._part(key, value)
            except ValidationError as error:
                messages += [((key, *loc), message) for loc, message in error_messages(error, (key,))]
        wrong = {key_path[0] for key_path, _ in messages}
        try:
            run = RunSpec.model_validate({**parts, "seed": 0})
        except ValidationError as error:
            messages += [item for item in error_messages(error) if item[0][0] not in wrong]
        for key_path, message in messages:
            self.problems.append(self._problem(key_path, message, tree, changes))
        return None if messages else dict(run)

    def _problem(self, key_path: KeyPath, message: str, tree: Tree, changes: Sequence[Change]) -> Problem:
        """Return the problem of a key, with the line of its change or of the base."""
        if key_path[0] in tree:
            return Problem(self._where(_existing(key_path, tree), changes), message)
        if key_path == USE[:1]:
            message += (
                f"; write recipe: {{use: NAME}}, where NAME is one of {', '.join(definitions(RECIPES))}"
            )
        return Problem(self.document.where(self._base_path), message)

    def _changed(self, changes: Sequence[Change]) -> Tree | None:
        """Return the base with all changes applied, or None after recording an ineffective change."""
        recipe_choices = [change for change in changes if change.keys == USE]
        # A new `recipe.use` replaces the base's recipe before the other changes edit it. Without any recipe,
        # the data set decides, which a change may have chosen.
        tree: Tree = self._raw_base if recipe_choices else self.base
        ordered = sorted(changes, key=lambda change: (change not in recipe_choices, change.keys[0] != "data"))
        if overridden := _overridden_change(ordered):
            earlier, later = overridden
            where = self._line(later.key_path)
            message = f"{'.'.join(earlier.keys)}: is replaced by {'.'.join(later.keys)} ({where})"
            self.problems.append(Problem(self._line(earlier.key_path), message))
            return None
        for change in ordered:
            try:
                if change in recipe_choices and "use" not in self._raw_base.get("recipe", {"use": None}):
                    raise SpecError("recipe.use: changes nothing, because base.recipe is written out in full")
                if change.keys[0] == "seed":
                    raise SpecError("seed: seeds are listed under 'seeds'")
                if change.keys[0] == "recipe" and len(change.keys) > 1 and change.keys != USE:
                    tree = self._with_default_recipe(tree)
                tree = with_recipe(apply_change(tree, change.keys, change.value))
            except SpecError as error:
                self.problems += nested_problem(self._line(change.key_path), error)
                return None
        return self._with_default_recipe(tree)

    def _with_default_recipe(self, tree: Tree) -> Tree:
        """Return the tree with the recipe of its data set, if it has none."""
        if "recipe" in tree or (name := default_recipe(tree.get("data"))) is None:
            return tree
        self.defaults[tree["data"]["name"]] = name
        return with_recipe({**tree, "recipe": {"use": name}})

    def _part(self, key: str, value: Any) -> Any:
        kind = PARTS.get(key)
        if kind is None:
            return value
        text = json.dumps(value, sort_keys=True, default=str)
        if (key, text) not in self._parts:
            try:
                self._parts[key, text] = kind.model_validate(value)
            except ValidationError as error:
                raise merged(key, error.errors(include_url=False)) from None
        return self._parts[key, text]

    def _line(self, key_path: KeyPath) -> str:
        """Return "file:line" of a key path; for a change from the command line, its option."""
        return f"{SET} {key_path[1]}" if key_path[:1] == (SET,) else self.document.where(key_path)

    def _where(self, key_path: KeyPath, changes: Sequence[Change]) -> str:
        """Return "file:line" of the last change at, above or below `key_path`, or of the base."""
        for change in reversed(changes):
            if key_path[: len(change.keys)] == change.keys:
                return self._line((*change.key_path, *key_path[len(change.keys) :]))
        for change in reversed(changes):
            if change.keys[: len(key_path)] == key_path:
                return self._line(change.key_path)
        return self.document.where((*self._base_path, *key_path))


def _overridden_change(changes: Sequence[Change]) -> tuple[Change, Change] | None:
    """Return the first change that a later change overrides, with the later change."""
    for change, later in itertools.combinations(changes, 2):
        if change.keys[: len(later.keys)] == later.keys:
            return change, later
    return None


def _existing(loc: KeyPath, tree: Tree) -> KeyPath:
    """Return the keys of `loc` that exist in the tree, without pydantic's union tags."""
    key_path: KeyPath = ()
    value: Any = tree
    for part in loc:
        is_item = isinstance(value, list) and isinstance(part, int) and part < len(value)
        if is_item or (isinstance(value, Mapping) and part in value):
            value, key_path = value[part], (*key_path, part)
    return key_path

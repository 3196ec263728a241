"""Run specs from a base and changes to it: how ablations and sweeps put their runs together."""

import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from ema_lab.errors import DefinitionError, Problem, SpecError
from ema_lab.specs.change import Change, Tree, apply_change, nested_problem, with_recipe
from ema_lab.specs.document import Document, Place, error_messages
from ema_lab.specs.recipe import RecipeSpec
from ema_lab.specs.run import DataSpec, ModelSpec, RunSpec
from ema_lab.specs.strict import Spec, merged

USE = ("recipe", "use")
PARTS: Mapping[str, type[Spec]] = {"model": ModelSpec, "data": DataSpec, "recipe": RecipeSpec}


class Combine:
    """Applies changes to a base and checks what comes out; equal parts are checked once.

    Args:
        document: The file that the changes stand in.
        base: The run spec that they change, as plain data; it may name a recipe.
        place: Where the file has the base.

    Raises:
        DefinitionError: If the base names a recipe that is not there.
    """

    def __init__(self, document: Document, base: Tree, place: Place) -> None:
        self.document = document
        self.problems: list[Problem] = []
        self._given = base
        self._place = place
        self._parts: dict[tuple[str, str], Any] = {}
        try:
            self.base = with_recipe(base)
        except SpecError as error:
            where = document.where((*place, "recipe", "use"))
            raise DefinitionError(nested_problem(where, error)) from None

    def parts(self, changes: Sequence[Change]) -> dict[str, Any] | None:
        """Return the run spec's checked parts, or None after noting what is wrong with them."""
        tree = self._changed(changes)
        if tree is None:
            return None
        parts: dict[str, Any] = {}
        messages: list[tuple[Place, str]] = []
        for key, value in tree.items():
            try:
                parts[key] = self._part(key, value)
            except ValidationError as error:
                messages += [((key, *loc), message) for loc, message in error_messages(error, (key,))]
        wrong = {place[0] for place, _ in messages}
        try:
            run = RunSpec.model_validate({**parts, "seed": 0})
        except ValidationError as error:
            messages += [item for item in error_messages(error) if item[0][0] not in wrong]
        for place, message in messages:
            self.problems.append(Problem(self._where(_existing(place, tree), changes), message))
        return None if messages else dict(run)

    def _changed(self, changes: Sequence[Change]) -> Tree | None:
        """Return the base with all changes, or None after noting one that cannot have its effect."""
        chosen = [change for change in changes if change.keys == USE]
        tree: Tree = self._given if chosen else self.base  # a recipe is chosen before it is changed
        ordered = (*chosen, *(change for change in changes if change.keys != USE))
        if found := _replaced(ordered):
            lost, later = found
            where = self.document.where(later.place)
            message = f"{'.'.join(lost.keys)}: is replaced by {'.'.join(later.keys)} ({where})"
            self.problems.append(Problem(self.document.where(lost.place), message))
            return None
        for change in ordered:
            try:
                if change in chosen and "use" not in self._given.get("recipe", {"use": None}):
                    raise SpecError("recipe.use: changes nothing, because base.recipe is written out in full")
                if change.keys[0] == "seed":
                    raise SpecError("seed: seeds are listed under 'seeds'")
                tree = with_recipe(apply_change(tree, change.keys, change.value))
            except SpecError as error:
                self.problems += nested_problem(self.document.where(change.place), error)
                return None
        return tree

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

    def _where(self, place: Place, changes: Sequence[Change]) -> str:
        """Return the line that set the value at `place`: the last change at, above or below it."""
        for change in reversed(changes):
            if place[: len(change.keys)] == change.keys:
                return self.document.where((*change.place, *place[len(change.keys) :]))
        for change in reversed(changes):
            if change.keys[: len(place)] == place:
                return self.document.where(change.place)
        return self.document.where((*self._place, *place))


def _replaced(changes: Sequence[Change]) -> tuple[Change, Change] | None:
    """Return the first change that a later one makes vain, and that later one."""
    for change, later in itertools.combinations(changes, 2):
        if change.keys[: len(later.keys)] == later.keys:
            return change, later
    return None


def _existing(loc: Place, tree: Tree) -> Place:
    """Return the part of `loc` that is in the tree: pydantic adds the tags of unions to it."""
    place: Place = ()
    value: Any = tree
    for part in loc:
        is_item = isinstance(value, list) and isinstance(part, int) and part < len(value)
        if is_item or (isinstance(value, Mapping) and part in value):
            value, place = value[part], (*place, part)
    return place

"""A fair search: every row of an ablation gets the same budget, then its winner is trained afresh.

What is compared is the rows' models, so a space that is searched for all of them changes only the recipe.
Nothing of the search enters a result: the winners are trained again, on seeds that no trial has seen.
"""

import itertools
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from ema_lab.ablation.ablation import Ablation, load_ablation
from ema_lab.ablation.grid import Cell
from ema_lab.errors import DefinitionError, EmaLabError, Problem, SpecError, StoreError
from ema_lab.files import write_text
from ema_lab.search.history import Ended, searched_run_ids
from ema_lab.search.sweep import Sweep
from ema_lab.specs.parameter import ParameterSpec
from ema_lab.specs.run import RunSpec
from ema_lab.store.store import RunStore

MADE_BY = "# Made by ema-lab tune"
MODEL = "model."


@dataclass(frozen=True)
class RowSearch:
    """The search of one row: what it changes, and the trials that are over.

    `written` is the recipe as written, tried on the same images and seeds; None until its runs are over.
    """

    row: str
    sweep: Sweep
    study_name: str
    trials: tuple[Ended, ...]
    written: Ended | None = None

    @property
    def failed(self) -> int:
        return sum(one.state == "failed" for one in self.trials)

    @property
    def candidates(self) -> tuple[Ended, ...]:
        """The trials that may win: the recipe as written before all others."""
        return (*([self.written] if self.written is not None else []), *self.trials)


def space_for_all(sweep: Sweep, seeds: Sequence[int] | None = None) -> tuple[Sweep, list[str]]:
    """Return a sweep without what changes the model, and the keys that are left out.

    Args:
        sweep: The space.
        seeds: What each trial trains, in place of the file's.

    Raises:
        SpecError: If what is left cannot be searched for all rows alike.
    """
    out = [key for key in sweep.places if key.startswith(MODEL)]
    left = tuple(one for one in sweep.parameters if one.key not in out)
    if not left:
        raise SpecError(f"{sweep.path}: searches nothing but the model, which is what the rows compare")
    if images := [one.key for one in left if not one.key.startswith("recipe.")]:
        rule = "every row needs the same images: give it one value, or leave it out"
        raise SpecError(f"{sweep.path}: {', '.join(images)}: {rule}")
    if sweep.goal.target is not None:
        rule = "would end some rows' search before the others': leave it out"
        raise SpecError(f"{sweep.document.where(('metric', 'target'))}: metric.target: {rule}")
    spec = sweep.spec
    if seeds:
        parameters = {**spec.parameters, "seeds": ParameterSpec(value=list(seeds))}
        spec = spec.model_copy(update={"parameters": parameters})
    constants = tuple(change for change in sweep.constants if ".".join(change.keys) not in out)
    places = {key: place for key, place in sweep.places.items() if key not in out}
    return replace(sweep, spec=spec, constants=constants, parameters=left, places=places), out


def row_sweeps(ablation: Ablation, space: Sweep) -> dict[str, Sweep]:
    """Return the search of each row of an ablation.

    Raises:
        SpecError: If an axis crosses the variants, so that there is no one baseline.
        DefinitionError: If the space does not apply to a row, which is named.
    """
    if len({repr(cell.axes) for cell in ablation.cells}) > 1:
        names = ", ".join(name for name, _ in ablation.cells[0].axes)
        rule = f"the axis {names} crosses every variant; tune one of its values at a time"
        raise SpecError(f"{ablation.path}: {rule}: --only {ablation.cells[0].axes[0][0]}=VALUE")
    found: dict[str, Sweep] = {}
    problems: dict[Problem, list[str]] = {}
    for row, cells in ablation.rows().items():
        try:
            found[row] = space.on(cells[0])
        except DefinitionError as error:
            for problem in error.problems:
                problems.setdefault(problem, []).append(row)
    if problems:
        raise DefinitionError([_for_rows(*item) for item in problems.items()])
    return found


def _for_rows(problem: Problem, rows: Sequence[str]) -> Problem:
    named = f"the row{'s' * (len(rows) > 1)} {', '.join(rows)}"
    return replace(problem, message=f"for {named}: {problem.message}")


def own_trials(trials: Sequence[Ended], budget: int) -> tuple[Ended, ...]:
    """Return the first `budget` trials that the search itself has tried: later ones would favour a row."""
    own = sorted((one for one in trials if not one.warm), key=lambda one: one.first_number)
    return tuple(own[:budget])


def missing(searches: Sequence[RowSearch], budget: int) -> dict[str, int]:
    """Return how many trials each row lacks, the recipe as written too; rows that lack none are out."""
    lacks = {one.row: budget - len(one.trials) + (one.written is None) for one in searches}
    return {row: count for row, count in lacks.items() if count > 0}


def searched_seeds(ablation: Ablation, store: RunStore, storage: str | None = None) -> set[int]:
    """Return the seeds that any search has tried with a row's model on its data, whatever its space.

    Args:
        ablation: The rows.
        store: Where the runs are, and the journals of searches.
        storage: A URL where searches are kept, too.

    Raises:
        StoreError: If a search's trials cannot be read.
    """
    rows = {_subject(cell.spec) for cell in ablation.cells}
    seeds: set[int] = set()
    for run_id in searched_run_ids(store, storage):
        try:
            spec = store.spec(run_id)
        except StoreError:
            continue  # it was never begun here
        if _subject(spec) in rows:
            seeds.add(spec.seed)
    return seeds


def _subject(spec: RunSpec) -> tuple[str, str]:
    return spec.model.canonical, spec.data.name


def other_epochs(
    searches: Sequence[RowSearch], winners: Mapping[str, Ended], final: Mapping[str, RunSpec]
) -> list[str]:
    """Return a line for each two lengths of runs, in the search and afterwards, that differ; with rows."""
    rows: dict[tuple[int, int], list[str]] = {}
    for one in searches:
        if one.row in winners:
            searched = one.sweep.runs(winners[one.row].choice)[0].recipe.epochs
            trained = final[one.row].recipe.epochs
            if searched != trained:
                rows.setdefault((searched, trained), []).append(one.row)
    return [
        f"{', '.join(names)}: searched with {searched} epoch{'s' * (searched != 1)}, trained with {trained}"
        for (searched, trained), names in rows.items()
    ]


def fresh_seeds(count: int, used: Collection[int]) -> list[int]:
    """Return so many seeds from the first whole number on, without those that the search has used."""
    return list(itertools.islice((seed for seed in itertools.count() if seed not in used), count))


def tuned_definition(
    name: str, ablation: Ablation, winners: Mapping[str, Mapping[str, Any]], seeds: Sequence[int], words: str
) -> dict[str, Any]:
    """Return an ablation file's content: each row with its winner's values, on fresh seeds.

    Args:
        name: The new ablation's name.
        ablation: The one that was tuned.
        winners: The chosen values by row, by dotted key; other rows are left out.
        seeds: Its seeds.
        words: Its description.
    """
    cells = {row: cells[0] for row, cells in ablation.rows().items() if row in winners}
    base, changes = _apart({row: _tree(cell) for row, cell in cells.items()})
    baselines = [row for row, cell in cells.items() if cell.variant == ablation.baseline]
    return {
        "name": name,
        "description": words,
        "base": base,
        "seeds": list(seeds),
        **({"baseline": baselines[0]} if baselines else {}),
        "variants": {row: {**changes[row], **_plain(winners[row])} for row in cells},
    }


def _tree(cell: Cell) -> dict[str, Any]:
    """Return a run spec as data without its seed; a row without attention says so."""
    tree: dict[str, Any] = {key: value for key, value in cell.spec.resolved().items() if key != "seed"}
    return {**tree, "model": {"attention": "none", **tree["model"]}}


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def _apart(
    trees: Mapping[str, Mapping[str, Mapping[str, Any]]],
) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """Return what all trees share, and by row what each has besides, by dotted key."""
    first = next(iter(trees.values()))
    shared = {
        part: {
            key: value
            for key, value in values.items()
            if all(key in tree[part] and tree[part][key] == value for tree in trees.values())
        }
        for part, values in first.items()
    }
    if len(trees) == 1:  # a variant says at least which attention it has
        del shared["model"]["attention"]
    own = {
        row: {
            f"{part}.{key}": value
            for part, values in tree.items()
            for key, value in values.items()
            if key not in shared[part]
        }
        for row, tree in trees.items()
    }
    return shared, own


def tuned_text(definition: Mapping[str, Any], comment: Sequence[str]) -> str:
    """Return the file: where it comes from, then the definition."""
    head = "\n".join([MADE_BY, *(f"# {line}" for line in comment)])
    return f"{head}\n{yaml.safe_dump(dict(definition), sort_keys=False, width=105, allow_unicode=True)}"


def check_place(path: Path) -> None:
    """Refuse a file that somebody wrote.

    Raises:
        SpecError: If it was not made by tune, or cannot be an ablation's file.
    """
    if path.suffix != ".yaml":
        raise SpecError(f"--out must be a file NAME.yaml, got {path}")
    if path.exists() and not (path.is_file() and _text(path).startswith(MADE_BY)):
        raise SpecError(f"{path} is there and was not made by tune: give another file, --out FILE")


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def write_tuned(path: Path, text: str, wanted: Mapping[str, RunSpec]) -> bool:
    """Write the file unless it says the same already; return whether it was written.

    Args:
        path: Where it goes.
        text: What `tuned_text` gives.
        wanted: The run of the first seed by row, which the file must give.

    Raises:
        EmaLabError: If it would not give those; nothing is written then.
    """
    if path.exists() and _text(path) == text:
        return False
    with tempfile.TemporaryDirectory(prefix="ema-lab-tune-") as folder:
        trial = Path(folder) / path.name
        trial.write_text(text, encoding="utf-8")
        rows = load_ablation(trial).rows()
    wrong = [row for row, spec in wanted.items() if rows[row][0].run_id != spec.run_id]
    if wrong:
        raise EmaLabError(f"{path}: cannot be written, as it would change the rows {', '.join(wrong)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)
    return True


def final_run(cell: Cell, values: Mapping[str, Any], space: Sweep, seed: int) -> RunSpec:
    """Return a row's run with the winner's values and nothing else of the search.

    Raises:
        DefinitionError: If they only fit together with the search's constants.
    """
    return replace(space, base=cell, constants=()).run(values, seed)

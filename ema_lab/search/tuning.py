"""Fair search: every row of an ablation gets the same budget, then its winner is retrained.

The rows compare models, so the space that all rows share changes only the recipe. No search value enters a
result: winners are retrained on seeds that no trial has used.
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
from ema_lab.search.history import EndedTrial, searched_run_ids
from ema_lab.search.sweep import Sweep
from ema_lab.specs.parameter import ParameterSpec
from ema_lab.specs.run import RunSpec
from ema_lab.store.store import RunStore
from ema_lab.wording import number_of

MADE_BY = "# Made by ema-lab tune"
MODEL = "model."


@dataclass(frozen=True)
class RowSearch:
    """Search of one row: its sweep, and its ended trials.

    `written` is the recipe as written, tried on the same images and seeds; None until those runs have ended.
    """

    row: str
    sweep: Sweep
    study_name: str
    trials: tuple[EndedTrial, ...]
    written: EndedTrial | None = None

    @property
    def failed(self) -> int:
        return sum(trial.state == "failed" for trial in self.trials)

    @property
    def candidates(self) -> tuple[EndedTrial, ...]:
        """Trials that may win, the recipe as written first."""
        return (*([self.written] if self.written is not None else []), *self.trials)


def space_for_all(sweep: Sweep, seeds: Sequence[int] | None = None) -> tuple[Sweep, list[str]]:
    """Return a sweep without the keys that change the model, and those keys.

    Args:
        sweep: The space.
        seeds: Seeds of each trial instead of the file's.

    Raises:
        SpecError: If the remaining space cannot be searched for all rows alike.
    """
    model_keys = [key for key in sweep.key_paths if key.startswith(MODEL)]
    kept = tuple(parameter for parameter in sweep.parameters if parameter.key not in model_keys)
    if not kept:
        raise SpecError(f"{sweep.path}: searches only model keys, which the rows compare; add a recipe key")
    if images := [parameter.key for parameter in kept if not parameter.key.startswith("recipe.")]:
        rule = "every row needs the same images: give one value, or remove the key"
        raise SpecError(f"{sweep.path}: {', '.join(images)}: {rule}")
    if sweep.goal.target is not None:
        rule = "would end the search of some rows before others: remove the key"
        raise SpecError(f"{sweep.document.where(('metric', 'target'))}: metric.target: {rule}")
    spec = sweep.spec
    if seeds:
        parameters = {**spec.parameters, "seeds": ParameterSpec(value=list(seeds))}
        spec = spec.model_copy(update={"parameters": parameters})
    constants = tuple(change for change in sweep.constants if ".".join(change.keys) not in model_keys)
    key_paths = {key: key_path for key, key_path in sweep.key_paths.items() if key not in model_keys}
    return replace(sweep, spec=spec, constants=constants, parameters=kept, key_paths=key_paths), model_keys


def row_sweeps(ablation: Ablation, space: Sweep) -> dict[str, Sweep]:
    """Return the search of each row of an ablation.

    Raises:
        SpecError: If an axis crosses the variants, so that there is more than one baseline.
        DefinitionError: If the space does not apply to a row. The message names the row.
    """
    if len({repr(cell.axes) for cell in ablation.cells}) > 1:
        names = ", ".join(name for name, _ in ablation.cells[0].axes)
        rule = f"the axis {names} crosses every variant; tune one of its values at a time"
        raise SpecError(f"{ablation.path}: {rule}: --only {ablation.cells[0].axes[0][0]}=VALUE")
    sweeps: dict[str, Sweep] = {}
    problems: dict[Problem, list[str]] = {}
    for row, cells in ablation.rows().items():
        try:
            sweeps[row] = space.on(cells[0])
        except DefinitionError as error:
            for problem in error.problems:
                problems.setdefault(problem, []).append(row)
    if problems:
        raise DefinitionError([_for_rows(*item) for item in problems.items()])
    return sweeps


def _for_rows(problem: Problem, rows: Sequence[str]) -> Problem:
    named = f"the row{'s' * (len(rows) > 1)} {', '.join(rows)}"
    return replace(problem, message=f"for {named}: {problem.message}")


def own_trials(trials: Sequence[EndedTrial], budget: int) -> tuple[EndedTrial, ...]:
    """Return the first `budget` trials of the search itself; more trials would favour a row."""
    own = sorted((trial for trial in trials if not trial.warm), key=lambda trial: trial.first_number)
    return tuple(own[:budget])


def missing(searches: Sequence[RowSearch], budget: int) -> dict[str, int]:
    """Return the number of trials that each incomplete row lacks.

    The recipe as written counts as one of the trials.
    """
    lacks = {search.row: budget - len(search.trials) + (search.written is None) for search in searches}
    return {row: count for row, count in lacks.items() if count > 0}


def searched_seeds(ablation: Ablation, store: RunStore, storage: str | None = None) -> set[int]:
    """Return the seeds that any search, of whatever space, has tried with a row's model on its data.

    Args:
        ablation: Ablation with the rows.
        store: Store of the runs and of the searches' journals.
        storage: URL of another storage of searches.

    Raises:
        StoreError: If a search's trials cannot be read.
    """
    rows = {_subject(cell.spec) for cell in ablation.cells}
    seeds: set[int] = set()
    for run_id in searched_run_ids(store, storage):
        try:
            spec = store.spec(run_id)
        except StoreError:
            continue  # a run of another store
        if _subject(spec) in rows:
            seeds.add(spec.seed)
    return seeds


def _subject(spec: RunSpec) -> tuple[str, str]:
    return spec.model.canonical, spec.data.name


def other_epochs(
    searches: Sequence[RowSearch], winners: Mapping[str, EndedTrial], final: Mapping[str, RunSpec]
) -> list[str]:
    """Return a line, with its rows, for each number of searched epochs that the final runs do not have."""
    rows: dict[tuple[int, int], list[str]] = {}
    for search in searches:
        if search.row in winners:
            searched = search.sweep.runs(winners[search.row].choice)[0].recipe.epochs
            trained = final[search.row].recipe.epochs
            if searched != trained:
                rows.setdefault((searched, trained), []).append(search.row)
    return [
        f"{', '.join(names)}: searched with {number_of(searched, 'epoch')}, trained with {trained}"
        for (searched, trained), names in rows.items()
    ]


def fresh_seeds(count: int, used: Collection[int]) -> list[int]:
    """Return the `count` smallest seeds that no search has used."""
    return list(itertools.islice((seed for seed in itertools.count() if seed not in used), count))


def tuned_definition(
    name: str,
    ablation: Ablation,
    winners: Mapping[str, Mapping[str, Any]],
    seeds: Sequence[int],
    *,
    description: str,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """Return an ablation file's content: each row with its winner's values, on fresh seeds.

    Args:
        name: The new ablation's name.
        ablation: Ablation that was tuned.
        winners: Chosen values by row and dotted key. Rows without a winner are left out.
        seeds: Seeds of the new ablation.
        description: Description of the new ablation.
        notes: Caveats that every table of the new ablation repeats.
    """
    cells = {row: cells[0] for row, cells in ablation.rows().items() if row in winners}
    base, changes = _apart({row: _tree(cell) for row, cell in cells.items()})
    baselines = [row for row, cell in cells.items() if cell.variant == ablation.baseline]
    return {
        "name": name,
        "description": description,
        **({"notes": list(notes)} if notes else {}),
        "base": base,
        "seeds": list(seeds),
        **({"baseline": baselines[0]} if baselines else {}),
        "variants": {row: {**changes[row], **_with_lists(winners[row])} for row in cells},
    }


def _tree(cell: Cell) -> dict[str, Any]:
    """Return a run spec as data without its seed; a row without attention says `none`."""
    tree: dict[str, Any] = {key: value for key, value in cell.spec.resolved().items() if key != "seed"}
    return {**tree, "model": {"attention": "none", **tree["model"]}}


def _with_lists(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def _apart(
    trees: Mapping[str, Mapping[str, Mapping[str, Any]]],
) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """Split trees into the part that all share and, by row, the remaining values by dotted key."""
    first = next(iter(trees.values()))
    shared = {
        part: {
            key: value
            for key, value in values.items()
            if all(key in tree[part] and tree[part][key] == value for tree in trees.values())
        }
        for part, values in first.items()
    }
    if len(trees) == 1:  # a variant must set at least one key: its attention
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
    """Return the file's text: a comment on its origin, then the definition."""
    head = "\n".join([MADE_BY, *(f"# {line}" for line in comment)])
    return f"{head}\n{yaml.safe_dump(dict(definition), sort_keys=False, width=105, allow_unicode=True)}"


def check_output_path(path: Path) -> None:
    """Refuse an output path that tune must not overwrite.

    Raises:
        SpecError: If the path is not a YAML file, or holds a file that tune did not make.
    """
    if path.suffix != ".yaml":
        raise SpecError(f"--out must be a file NAME.yaml, got {path}")
    if path.exists() and not (path.is_file() and _text(path).startswith(MADE_BY)):
        raise SpecError(f"{path} exists and was not made by tune; give another file with --out FILE")


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def write_tuned(path: Path, text: str, wanted: Mapping[str, RunSpec]) -> bool:
    """Write the file unless its text is unchanged; return whether it was written.

    Args:
        path: Output path.
        text: Text from `tuned_text`.
        wanted: First seed's run of each row, which the file must reproduce.

    Raises:
        EmaLabError: If the file would give other runs. Nothing is written then.
    """
    if path.exists() and _text(path) == text:
        return False
    with tempfile.TemporaryDirectory(prefix="ema-lab-tune-") as folder:
        trial = Path(folder) / path.name
        trial.write_text(text, encoding="utf-8")
        rows = load_ablation(trial).rows()
    wrong = [row for row, spec in wanted.items() if rows[row][0].run_id != spec.run_id]
    if wrong:
        raise EmaLabError(f"{path}: not written, since it would change the rows {', '.join(wrong)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)
    return True


def final_run(cell: Cell, values: Mapping[str, Any], space: Sweep, seed: int) -> RunSpec:
    """Return a row's run with the winner's values and no other setting of the search.

    Raises:
        DefinitionError: If the values are valid only with the search's constants.
    """
    return replace(space, base=cell, constants=()).run(values, seed)

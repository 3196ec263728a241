"""Names of runs: the cells of all ablations that share a run, found from the current folder."""

from collections.abc import Iterator
from dataclasses import dataclass

from ema_lab.ablation.ablation import load_ablation
from ema_lab.errors import EmaLabError
from ema_lab.specs.definition import definitions


@dataclass(frozen=True)
class RunName:
    """Cell of an ablation: its ablation, its table row and its seed."""

    ablation: str
    row: str
    seed: int

    def __str__(self) -> str:
        return f"{self.row} seed {self.seed} of {self.ablation}"


def run_names() -> dict[str, list[RunName]]:
    """Return the names of every run that an ablation has, by run id, the local ablations' first.

    An ablation that cannot be read is skipped.
    """
    names: dict[str, list[RunName]] = {}
    for run_id, name in _names():
        if name not in names.setdefault(run_id, []):
            names[run_id].append(name)
    return names


def _names() -> Iterator[tuple[str, RunName]]:
    files = definitions("ablations")
    for path in sorted(files.values(), key=lambda path: (path.is_absolute(), path)):
        try:
            ablation = load_ablation(path)
        except EmaLabError:
            continue
        for cell in ablation.cells:
            yield cell.run_id, RunName(ablation.name, cell.row, cell.seed)


def flat_names(names: list[RunName]) -> dict[str, str | None]:
    """Return ablations and rows as text, each joined by a comma; None for a run of no ablation."""
    return {
        "ablation": ", ".join(dict.fromkeys(name.ablation for name in names)) or None,
        "row": ", ".join(dict.fromkeys(name.row for name in names)) or None,
    }

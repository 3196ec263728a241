"""Push of an ablation to an experiment tracker from Python: the same as the command `ema-lab push`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ema_lab.ablation.ablation import Ablation, load_ablation
from ema_lab.ablation.grid import Cell
from ema_lab.errors import StoreError
from ema_lab.store.failure import shown_state
from ema_lab.tracking.mirror.content import Snapshot
from ema_lab.tracking.mirror.push import check_project
from ema_lab.tracking.names import wandb_project
from ema_lab.workflow.execution import DEFAULT_STORE, Watch, ignore
from ema_lab.workflow.folders import existing_store
from ema_lab.workflow.mirror import Mirrored, check_mirror, mirror_runs, open_mirror, require_package
from ema_lab.workflow.selection import Conditions, SeedChoice, selected


@dataclass(frozen=True)
class PushOutcome:
    """Result of a push.

    Attributes:
        ablation: The ablation with all seeds that the store has.
        cells: Cells that were pushed.
        snapshot: Status of the runs at the beginning.
        mirrored: Action on each run, and the state of the mirror.
        cut_curves: Names of the runs whose curves lack epochs.
    """

    ablation: Ablation
    cells: Sequence[Cell]
    snapshot: Snapshot
    mirrored: Mirrored
    cut_curves: Sequence[str]

    def rows(self) -> list[dict[str, Any]]:
        """Return one flat object per cell, as `ema-lab push --json` prints them."""
        return [self._row(cell) for cell in self.cells]

    def _row(self, cell: Cell) -> dict[str, Any]:
        status = self.snapshot.statuses[cell.run_id]
        return {
            "run_id": cell.run_id,
            "variant": cell.row,
            "seed": cell.seed,
            "status": shown_state(status.state, status.failure),
            "stale": " ".join(status.stale) or None,
            "mirror": self.mirrored.actions.get(cell.run_id),
        }


def push(
    ablation: str | Path,
    to: str,
    *,
    project: str | None = None,
    prune: bool = False,
    only: Conditions | None = None,
    seeds: SeedChoice | None = None,
    store: Path | str = DEFAULT_STORE,
    watch: Watch = ignore,
) -> PushOutcome:
    """Rebuild an ablation's mirror from the store; send only what is missing or has changed.

    Args:
        ablation: A path, or the name of a definition.
        to: "wandb", "trackio", "tensorboard" or "mlflow".
        project: Project at the tracker; None takes WANDB_PROJECT, else ema-lab.
        prune: Remove mirrored runs of cells that no longer exist.
        only: Conditions on cells: values by key, or "KEY=VALUE" texts.
        seeds: The first so many seeds of the file, or a list of seeds.
        store: Folder of the runs.
        watch: Observer of the events of `ema_lab.workflow.events`.

    Raises:
        EmaLabError: If the request is wrong, no run is done, or the tracker does not answer.
    """
    check_mirror(to)
    runs = existing_store(store)
    whole = load_ablation(ablation).with_stored_seeds(runs.folder_names())
    chosen = selected(ablation, only, seeds) if only or seeds else whole
    name = check_project(project or wandb_project())
    snapshot = Snapshot.take(whole, runs)
    content = snapshot.runs(runs, chosen.cells)
    if not content:
        command = f"ema-lab run {ablation}" + ("" if Path(store) == DEFAULT_STORE else f" --store {store}")
        raise StoreError(f"no run of {whole.name} is done in {store}; {command} trains them")
    require_package(to)

    known = {*snapshot.statuses, snapshot.results().run_id}
    mirrored = mirror_runs(
        runs,
        lambda: open_mirror(to, runs, name, whole.name),
        [*content, snapshot.results()],
        lambda mirror: mirror.orphans(known),
        prune=prune,
        watch=watch,
    )
    return PushOutcome(whole, chosen.cells, snapshot, mirrored, snapshot.cut_curves(content))

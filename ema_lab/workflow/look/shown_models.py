"""Sources of a gallery's models: finished runs, or models as their training starts."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ema_lab.ablation.grid import Cell
from ema_lab.errors import SpecError, StoreError
from ema_lab.store.predictions import read_predictions
from ema_lab.store.staleness import Staleness
from ema_lab.store.store import RunStore
from ema_lab.wording import number_of

if TYPE_CHECKING:
    import numpy as np
    from torch import nn


class ShownModels(Protocol):
    """The models of a gallery's rows.

    Attributes:
        detections: Phrase on the origin of detections, which captions put after "a score of 0.25 or more, ".
    """

    detections: str

    def has(self, cell: Cell) -> bool:
        """Return whether a cell has a model to show."""

    def model(self, cell: Cell) -> "nn.Module":
        """Return a cell's model in eval mode."""

    def stored_predictions(self, cell: Cell) -> "Mapping[str, np.ndarray[Any, Any]] | None":
        """Return the stored predictions of a cell; None if the model has to predict.

        Raises:
            StoreError: If a run has no readable predictions.
        """

    def label(self, name: str, cell: Cell) -> str:
        """Return a row's name in the figure."""

    def remarks(self, cells: Mapping[str, Cell]) -> Iterator[str]:
        """Yield a caption's sentences on the origin of the models."""

    def check(self, name: str, seed: int, cells: Mapping[str, Cell]) -> None:
        """Check that an ablation's cells have a model to show.

        Raises:
            SpecError: If none has.
        """


class FinishedRuns:
    """The models of finished runs. Rows without one are empty."""

    detections = "as stored with the runs"

    def __init__(self, store: RunStore) -> None:
        self._runs = store

    def has(self, cell: Cell) -> bool:
        return self._runs.state(cell.run_id) == "done"

    def model(self, cell: Cell) -> "nn.Module":
        from ema_lab.one_run.model import load_model

        return load_model(cell.run_id, self._runs)

    def stored_predictions(self, cell: Cell) -> "Mapping[str, np.ndarray[Any, Any]] | None":
        try:
            return read_predictions(self._runs.folder(cell.run_id))
        except FileNotFoundError:
            raise StoreError(f"the run {cell.run_id} has no predictions to show") from None

    def label(self, name: str, cell: Cell) -> str:
        return name

    def remarks(self, cells: Mapping[str, Cell]) -> Iterator[str]:
        done = {name: cell for name, cell in cells.items() if self.has(cell)}
        if missing := [name for name in cells if name not in done]:
            yield f"Not there: {', '.join(missing)}."
        staleness = Staleness()
        stale = [
            name for name, cell in done.items() if staleness.parts(cell.spec, self._runs.record(cell.run_id))
        ]
        if stale:
            yield f"Stale, as their source has changed since: {', '.join(stale)}."

    def check(self, name: str, seed: int, cells: Mapping[str, Cell]) -> None:
        if not any(self.has(cell) for cell in cells.values()):
            rule = f"no run of {name} with seed {seed} is done (store {self._runs.root})"
            raise SpecError(f"{rule}; --untrained shows the models as their training starts")


class UntrainedModels:
    """Models as their training starts: with random weights, or with the start weights of their spec.

    Args:
        data: Folder of the data sets.
    """

    detections = "of models that this ablation has not trained"

    def __init__(self, data: Path) -> None:
        self._data = data
        self._summaries: dict[str, dict[str, Any]] = {}

    def has(self, cell: Cell) -> bool:
        return True

    def model(self, cell: Cell) -> "nn.Module":
        from ema_lab.one_run.model import untrained_model

        model, summary = untrained_model(cell.spec, self._data)
        if summary is not None:
            self._summaries[cell.run_id] = summary
        return model

    def stored_predictions(self, cell: Cell) -> "Mapping[str, np.ndarray[Any, Any]] | None":
        return None

    def label(self, name: str, cell: Cell) -> str:
        return f"{name} ({'untrained' if cell.spec.model.start is None else 'start weights'})"

    def remarks(self, cells: Mapping[str, Cell]) -> Iterator[str]:
        drawn = [name for name, cell in cells.items() if cell.spec.model.start is None]
        if drawn:
            yield f"Untrained, all weights drawn, so that maps show chance: {', '.join(drawn)}."
        started = [_started(name, cell, self._summaries) for name, cell in cells.items() if name not in drawn]
        if started:
            yield f"Start weights only, the rest drawn, not trained here: {'; '.join(started)}."

    def check(self, name: str, seed: int, cells: Mapping[str, Cell]) -> None:
        """Accept all cells."""


def _started(name: str, cell: Cell, summaries: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a row's name with the source of its start weights and the number of tensors taken from it."""
    start, summary = cell.spec.model.start, summaries.get(cell.run_id)
    assert start is not None
    taken = f", {summary['tensors_taken']} of {number_of(summary['tensors'], 'tensor')}" if summary else ""
    return f"{name} ({start.source}{taken})"

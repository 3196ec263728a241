"""Models of runs: a finished run's from its checkpoint, and any run's as its training starts."""

from pathlib import Path
from typing import Any

from torch import nn

from ema_lab.errors import StoreError
from ema_lab.models.build import build_model
from ema_lab.models.start import start_summary, start_weights
from ema_lab.specs.run import RunSpec
from ema_lab.store.layout import weights_file
from ema_lab.store.store import RunStore
from ema_lab.tasks.task import load_task
from ema_lab.training.run import load_weights


def load_model(run_id: str, store: RunStore | Path | str = "runs") -> nn.Module:
    """Return a finished run's model in eval mode, with the weights that its protocol reports.

    Args:
        run_id: The run's id, or an unambiguous prefix.
        store: The store that contains the run.

    Raises:
        StoreError: If the run is not done, or its checkpoint is missing, damaged or another run's.

    Example:
        >>> short = {"data.train_images": 100, "recipe.epochs": 1}
        >>> outcome = ema_lab.run("quickstart", seeds=1, only=["variant=se"], changes=short, workers=1)
        >>> ema_lab.load_model(outcome.trained[0])(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """
    runs = store if isinstance(store, RunStore) else RunStore(store)
    run_id = runs.find(run_id)
    if (state := runs.state(run_id)) != "done":
        raise StoreError(f"the run {run_id} is {state}, so it has no model to load")
    spec = runs.spec(run_id)
    path = runs.folder(run_id) / weights_file(spec)
    if not path.is_file():
        raise StoreError(f"{path} is not there: the run has no weights to load")
    model = build_model(spec)
    load_weights(model, path, run_id)
    return model.eval()


def untrained_model(spec: RunSpec, data_root: Path) -> tuple[nn.Module, dict[str, Any] | None]:
    """Return a run's model in eval mode as its training starts, and a summary of its start weights, if any.

    What a task fits to the data before training, such as anchors, is fitted.

    Args:
        spec: The run, which needs no record.
        data_root: Folder of the data sets.

    Raises:
        SpecError: If the model cannot be built, or the start weights do not fit it.
    """
    model = build_model(spec)
    start, summary = spec.model.start, None
    if start is not None:
        summary = start_summary(start_weights(model, start, [data_root]), start)
    task = load_task(spec.data)
    task.prepare(model, task.data_of(spec, data_root, 0))
    return model.eval(), summary

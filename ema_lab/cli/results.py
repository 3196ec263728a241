"""Commands about results: diff, eval."""

from typing import Annotated, Any

import typer

from ema_lab.cli.options import Data, Device, Json, Store
from ema_lab.cli.output import print_rows, say
from ema_lab.errors import StoreError
from ema_lab.results.selection import PAIR_LABELS
from ema_lab.store.store import RunStore
from ema_lab.store.upkeep.export import flattened
from ema_lab.workflow.execution import DEFAULT_DATA, DEFAULT_STORE
from ema_lab.workflow.status import existing_store

RunId = Annotated[str, typer.Argument(help="A run id, or enough of its beginning.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.command()(diff)
    app.command("eval")(evaluate)


def diff(first: RunId, second: RunId, store: Store = DEFAULT_STORE, as_json: Json = False) -> None:
    """Show what differs between two runs: spec, environment, source, metrics.

    Example: ema-lab diff 3f2a 91bc
    """
    runs = existing_store(store)
    sides = [_facts_of(runs, runs.find(run_id)) for run_id in (first, second)]
    keys = list(dict.fromkeys([*sides[0], *sides[1]]))
    rows = [
        {"key": key, "first": sides[0].get(key), "second": sides[1].get(key)}
        for key in keys
        if sides[0].get(key) != sides[1].get(key)
    ]
    print_rows(rows, as_json=as_json)
    say(f"{len(rows)} of {len(keys)} keys differ")


def _facts_of(store: RunStore, run_id: str) -> dict[str, Any]:
    record = store.record(run_id)
    facts = flattened(store.spec(run_id).resolved())
    facts["status"] = store.state(run_id)
    if record is not None:
        kept = ("metrics", "chosen_epoch", "cost", "environment", "data_sha256", "source")
        facts |= flattened({key: record.model_dump(mode="json")[key] for key in kept})
    return facts


def evaluate(
    run_id: RunId,
    split: Annotated[str, typer.Option("--split", help="test, val or train.")] = "test",
    device: Device = "auto",
    store: Store = DEFAULT_STORE,
    data: Data = DEFAULT_DATA,
    as_json: Json = False,
) -> None:
    """Evaluate a finished run's model again, from its checkpoint.

    Example: ema-lab eval 3f2a --split test
    """
    runs = existing_store(store)
    found = runs.find(run_id)
    if runs.state(found) != "done":
        raise StoreError(f"the run {found} is {runs.state(found)}, so it has no model to evaluate")
    from ema_lab.one_run.model import load_model
    from ema_lab.tasks.task import load_data, load_task
    from ema_lab.training.evaluation import INDICES
    from ema_lab.training.evaluation import evaluate as predictions_of
    from ema_lab.training.trainer import choose_device

    spec = runs.spec(found)
    model, task = load_model(found, store), load_task(spec.data)
    predictions = predictions_of(model, task, load_data(spec, data), split, choose_device(device))
    metrics = task.metrics(predictions)
    row: dict[str, Any] = {"run_id": found, "split": split, "images": len(predictions[INDICES]), **metrics}
    print_rows([row], as_json=as_json)
    record = runs.record(found)
    primary = spec.data.task.primary
    known = record.metrics.get(primary) if record is not None else None
    if split == "test" and known is not None and known != metrics[primary]:
        say(f"the record says {primary} {known}: {PAIR_LABELS} differ")

"""Training of an ablation from Python: the same as the command `ema-lab run`."""

import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Unpack

from ema_lab.ablation.ablation import Ablation
from ema_lab.errors import SpecError
from ema_lab.workflow.events import recipe_remarks
from ema_lab.workflow.execution import Execution, ExecutionOptions, Watch, ignore
from ema_lab.workflow.outcome import GridOutcome
from ema_lab.workflow.selection import Changes, Conditions, SeedChoice, selected
from ema_lab.workflow.train.grid import train_grid
from ema_lab.workflow.train.until import Until, run_until_decided


def run(
    ablation: str | Path,
    *,
    only: Conditions | None = None,
    seeds: SeedChoice | None = None,
    changes: Changes | None = None,
    smoke: bool = False,
    until: Until | None = None,
    watch: Watch = ignore,
    **execution: Unpack[ExecutionOptions],
) -> GridOutcome:
    """Train every cell of an ablation that has no result yet, and return what happened.

    Finished runs are kept and failed ones are tried again. With several workers, a script needs the guard
    `if __name__ == "__main__":`, as with every use of multiprocessing.

    Example:
        >>> outcome = ema_lab.run("quickstart", only={"variant": "se"}, workers=1)
        >>> len(outcome.trained), len(outcome.done_before), outcome.failed
        (3, 0, ())

    Args:
        ablation: A path, or the name of a definition.
        only: Conditions on cells: values by key, or "KEY=VALUE" texts.
        seeds: The first so many seeds of the file, or a list of seeds.
        changes: "KEY=VALUE" texts, or values by dotted key, that change the file's base.
        smoke: Train two steps of every row on made-up images, in a temporary store.
        until: Add seeds one by one to the rows whose comparison with the baseline is open.
        watch: Observer of the events of `ema_lab.workflow.events`.
        **execution: Fields of `ema_lab.workflow.execution.Execution`: workers, device, store, data, ...

    Raises:
        EmaLabError: If the request is wrong. A run that fails raises nothing; it is in `failed`.
    """
    chosen = selected(ablation, only, seeds, changes)
    how = Execution(**execution)
    for remark in recipe_remarks(chosen):
        watch(remark)
    if smoke:
        return _smoke(chosen, how, until, watch)
    train = partial(train_grid, how=how, watch=watch)
    return run_until_decided(chosen, until, train, watch) if until is not None else train(chosen)


def _smoke(ablation: Ablation, how: Execution, until: Until | None, watch: Watch) -> GridOutcome:
    """Train two steps of the first cell of each row, in a store that is removed afterwards."""
    if until is not None:
        raise SpecError("--smoke decides nothing; leave out --until-decided")
    if how.elsewhere is not None:
        raise SpecError("--smoke trains on this machine, in a temporary store; leave out --engine")
    if how.devices > 1 or how.nodes > 1:
        option = "--devices" if how.devices > 1 else "--nodes"
        raise SpecError(f"--smoke trains two steps on one device; leave out {option}")
    if how.profile:
        raise SpecError(
            "--profile writes into the folders of runs, which --smoke removes; leave one of them out"
        )
    if how.refresh:
        raise SpecError("--refresh changes nothing with --smoke, whose store is new and temporary")
    from ema_lab.execution.smoke import smoke_spec

    cells = [members[0] for members in ablation.rows().values()]
    small = replace(ablation, cells=tuple(replace(cell, spec=smoke_spec(cell.spec)) for cell in cells))
    with tempfile.TemporaryDirectory(prefix="ema-lab-smoke-") as folder:
        return train_grid(small, replace(how, store=folder), watch)

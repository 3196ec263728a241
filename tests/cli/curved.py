"""A small ablation whose made-up runs have curves."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tiny import TINY, fake_outcome

from ema_lab.specs.run import RunSpec
from ema_lab.store.job import RunJob, RunOutcome

EPOCHS = 3
STUDY = TINY.replace("tiny", "study").replace("epochs: 1", f"epochs: {EPOCHS}")


def write_curve(folder: Path, rows: Sequence[Mapping[str, float]]) -> None:
    """Write a run's curve, a line for each row of numbers by column."""
    lines = [",".join(map(str, row.values())) for row in rows]
    (folder / "curve.csv").write_text("\n".join([",".join(rows[0]), *lines, ""]), encoding="utf-8")


def train_curved(spec: RunSpec, job: RunJob) -> RunOutcome:
    """Leave a curve whose loss is 2 / epoch + seed, and end as `fake_outcome` does."""
    rows = [{"epoch": epoch, "train_loss": 2.0 / epoch + spec.seed} for epoch in range(1, EPOCHS + 1)]
    write_curve(job.folder, rows)
    return replace(fake_outcome(spec), chosen_epoch=EPOCHS)

"""A small ablation whose made-up runs have curves."""

from dataclasses import replace

from tiny import TINY, fake_outcome

from ema_lab.job import RunJob, RunOutcome
from ema_lab.specs.run import RunSpec

EPOCHS = 3
STUDY = TINY.replace("tiny", "study").replace("epochs: 1", f"epochs: {EPOCHS}")


def train_curved(spec: RunSpec, job: RunJob) -> RunOutcome:
    """Leave a curve whose loss is 2 / epoch + seed, and end as `fake_outcome` does."""
    rows = [f"{epoch},{2.0 / epoch + spec.seed}" for epoch in range(1, EPOCHS + 1)]
    (job.folder / "curve.csv").write_text("\n".join(["epoch,train_loss", *rows, ""]))
    return replace(fake_outcome(spec), chosen_epoch=EPOCHS)

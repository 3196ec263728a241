"""A small ablation whose made-up runs have curves, and fixtures of tests that push it to a tracker."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
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


@pytest.fixture
def study(folder: Path, no_account: None, trained: Callable[..., list[str]]) -> list[str]:
    """The finished runs of an ablation of two rows and two seeds, with curves."""
    Path("ablations/study.yaml").write_text(STUDY)
    return trained("study", train=train_curved)


@pytest.fixture(scope="module")
def trackio_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Trackio reads its folder when it is imported: the tests share one, and take a project each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("TRACKIO_DIR", str(tmp_path_factory.mktemp("trackio")))
        import trackio.utils

        patch.setenv("TRACKIO_DIR", str(trackio.utils.TRACKIO_DIR))
        yield

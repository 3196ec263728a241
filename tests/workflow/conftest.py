"""A working folder with one small ablation, a made-up training, and the command line beside Python."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny import RATES, TINY, fake_outcome

from ema_lab.specs.run import RunSpec
from ema_lab.store.job import RunJob


@pytest.fixture(autouse=True)
def _checks(checked_once: None) -> None:
    """Spare most tests the check of the small models that all of them train."""


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[RunSpec]:
    """Change to a folder with `tiny` and `rates`; return a list that grows by each spec that is trained.

    SE is two points better, a seed adds one; a learning rate of 0.3 fails.
    """
    for folder, name, text in (("ablations", "tiny", TINY), ("sweeps", "rates", RATES)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{name}.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    seen: list[RunSpec] = []

    def train_run(spec: RunSpec, job: RunJob, *, report: Callable[..., None] | None = None, **_: Any) -> Any:
        seen.append(spec)
        if spec.recipe.optimizer.lr == 0.3:
            raise ValueError("the loss is not finite")
        top1 = (90.0 if spec.model.attention.name == "none" else 92.0) + spec.seed
        (job.folder / "curve.csv").write_text(f"epoch,val_top1\n1,{top1 + spec.recipe.optimizer.lr}\n")
        if report is not None:
            report({"epoch": 1, "val_top1": top1 + spec.recipe.optimizer.lr})
        return fake_outcome(spec)

    monkeypatch.setattr("ema_lab.one_run.pipeline.train_run", train_run)
    return seen

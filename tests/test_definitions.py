"""Every definition that is shipped loads, expands, and trains two steps."""

from pathlib import Path

import pytest

from ema_lab.ablation.ablation import load_ablation
from ema_lab.cli.main import run
from ema_lab.execution.smoke import smoke_spec
from ema_lab.reports.report import build_report
from ema_lab.search.sweep import load_sweep
from ema_lab.specs.change import named_recipe
from ema_lab.specs.recipe import RecipeSpec
from ema_lab.specs.report import load_report
from ema_lab.store.store import RunStore
from ema_lab.tasks.task import check_run

ROOT = Path(__file__).parents[1]
ABLATIONS = sorted(ROOT.glob("ablations/*.yaml"))
RECIPES = sorted(ROOT.glob("ablations/recipes/*.yaml"))
SWEEPS = sorted(ROOT.glob("sweeps/*.yaml"))
REPORTS = sorted(ROOT.glob("reports/*.yaml"))
LARGE = {  # two steps of these take long
    *("cifar100_resnet50", "cifar100_resnet101", "visdrone_yolov5xp2", "ema_branches"),
    *("ema_groups", "ema_norm", "ema_placement", "imagenet_mobilenetv2", "coco_yolov5s"),
    "imagenet_mobilenetv2_like_for_like",
    *("accuracy_macs", "ema_design", "lr_weight_decay"),
}


def stem(path: Path) -> str:
    return path.stem


def test_there_are_definitions_of_every_kind():
    assert all((ABLATIONS, RECIPES, REPORTS, SWEEPS))


@pytest.fixture(scope="session")
def built() -> set[str]:
    """Keys of the models that were built: several ablations share some."""
    return set()


@pytest.fixture(scope="session")
def trained() -> set[str]:
    """Ids of the smoke runs that were trained: several ablations share their first."""
    return set()


@pytest.mark.parametrize("path", ABLATIONS, ids=stem)
def test_an_ablation_expands_and_every_model_in_it_can_be_built(path, built):
    cells = load_ablation(path).cells
    assert len(cells) > 1
    models = {cell.spec.model_key: cell.spec for cell in cells}
    for key in models.keys() - built:
        check_run(models[key])  # as `plan --check` and `run` do
        built.add(key)
    assert built >= models.keys()


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=[pytest.mark.slow] * (path.stem in LARGE)) for path in ABLATIONS],
    ids=stem,
)
def test_the_first_cell_of_an_ablation_trains(path, capsys, trained):
    first = load_ablation(path).cells[0]
    smoke = smoke_spec(first.spec).run_id
    if smoke not in trained:
        arguments = [
            "--only",
            f"variant={first.variant}",
            "--seeds",
            "1",
            "--workers",
            "1",
            "--device",
            "cpu",
        ]
        assert run(["run", str(path), "--smoke", *arguments]) == 0
        trained.add(smoke)
    assert smoke in trained


@pytest.mark.parametrize("path", RECIPES, ids=stem)
def test_a_recipe_loads(path):
    assert RecipeSpec.model_validate(named_recipe(path.stem)).epochs > 0


@pytest.mark.parametrize("path", REPORTS, ids=stem)
def test_a_report_names_what_exists(path, tmp_path):
    spec = load_report(path)
    assert build_report(spec, RunStore(tmp_path / "runs")).tables
    if spec.ablation:
        assert load_ablation(spec.ablation).baseline


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=[pytest.mark.slow] * (path.stem in LARGE)) for path in SWEEPS],
    ids=stem,
)
def test_a_sweep_fits_its_base_and_its_first_trial_trains(path, capsys):
    assert len(load_sweep(path).examples()) > 1
    assert run(["sweep", str(path), "--smoke", "--workers", "1", "--device", "cpu"]) == 0

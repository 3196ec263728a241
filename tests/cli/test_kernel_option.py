"""--attention-kernel through the commands that train, and the mark on pairs that it divides."""

from pathlib import Path

import pytest
from tiny import RATES

from ema_lab.store.job import RunOutcome
from ema_lab.workflow.execution import Execution
from ema_lab.workflow.search.wandb_agents import agent_environment
from ema_lab.workflow.train.threads import _expected

CPU = ("--workers", "1", "--device", "cpu")
EMA = """
name: two
base:
  model: {backbone: resnet20}
  data: {name: digits}
  recipe: {epochs: 1, batch_size: 4, optimizer: {name: sgd, lr: 0.1}}
variants:
  four: {model.attention: {name: ema, groups: 4}}
  eight: {model.attention: {name: ema, groups: 8}}
  none: {model.attention: none}
baseline: four
seeds: [0, 1]
"""


@pytest.fixture
def kernels(monkeypatch):
    """Put a training of no time in the place of the real one; return the kernel that each run was given."""
    seen: list[str | None] = []

    def train_run(spec, job, *, machine, track=None, report=None):
        seen.append(machine.attention_kernel)
        (job.folder / "curve.csv").write_text("epoch,val_top1\n1,50.0\n")
        if report is not None:
            report({"epoch": 1, "val_top1": 50.0})
        ran = "exact" if machine.attention_kernel in ("exact", "auto") else "formula"
        facts = {"attention_kernel": ran} if spec.model.attention.name == "ema" else {}
        return RunOutcome(
            {"top1": 50.0 + spec.seed}, 1, {"parameters": 1, "macs": 1}, 1.0, 1.0, facts, "0" * 64
        )

    monkeypatch.setattr("ema_lab.one_run.pipeline.train_run", train_run)
    monkeypatch.delenv("EMA_LAB_ATTENTION_KERNEL", raising=False)
    return seen


@pytest.fixture
def ablation(command):
    Path("ablations/two.yaml").write_text(EMA)
    return "two"


def test_the_option_and_the_variable_reach_every_run(command, kernels, ablation, monkeypatch):
    assert command("run", ablation, *CPU, "--only", "variant=none", "--seeds", "1").code == 0
    assert command("run", ablation, *CPU, "--only", "variant=none", "--attention-kernel", "exact").code == 0
    monkeypatch.setenv("EMA_LAB_ATTENTION_KERNEL", "auto")
    assert command("run", ablation, *CPU, "--only", "variant=four").code == 0
    assert kernels == [None, "exact", "auto", "auto"]


def test_pairs_of_two_kernels_are_said_before_and_marked_after(command, kernels, ablation):
    command("run", ablation, *CPU, "--only", "variant=four", "--only", "variant=none")
    answer = command("run", ablation, *CPU, "--attention-kernel", "auto")
    words = "2 of 2 runs to train will be no clean pair with the others of the seed"
    assert f"warning: {words}, marked † (attention_kernel: exact and formula)" in answer.err
    table = command("report", ablation, "--out", "out").out
    lines = {name: line for line in table.splitlines() for name in ("eight", "none") if name in line.split()}
    rows = {name: "†" in line for name, line in lines.items()}
    assert rows == {"eight": True, "none": False}
    assert "attention kernel or versions" in table


def test_a_wrong_kernel_is_refused(command, kernels, ablation):
    answer = command("run", ablation, *CPU, "--attention-kernel", "fast")
    assert (answer.code, kernels) == (2, [])
    assert "the attention kernel must be one of formula, exact, triton, auto, got 'fast'" in answer.err


def test_a_trial_and_wandbs_agents_get_the_kernel(command, kernels, tmp_path):
    assert "EMA_LAB_ATTENTION_KERNEL" not in agent_environment(Execution())
    assert agent_environment(Execution(attention_kernel="exact"))["EMA_LAB_ATTENTION_KERNEL"] == "exact"
    trial = '{"base": "tiny/se", "seeds": [0], "data.val_images": 8}'
    assert command("trial", trial, "--device", "cpu", "--attention-kernel", "auto").code == 0
    assert kernels == ["auto"]


def test_a_search_gets_the_kernel(command, kernels, tmp_path):
    (tmp_path / "rates.yaml").write_text(RATES)
    path = str(tmp_path / "rates.yaml")
    answer = command("sweep", path, "--trials", "1", "--device", "cpu", "--attention-kernel", "exact")
    assert answer.code == 0, answer.err
    assert set(kernels) == {"exact"}


@pytest.mark.parametrize(
    ("attention", "here", "named"),
    [
        ("ema", {"attention_kernel": "triton", "device": "cuda: a GPU"}, "triton"),
        ("ca", {"attention_kernel": "formula", "device": "cuda: a GPU"}, "formula"),
        ("ca", {"attention_kernel": "exact", "device": "cpu: a processor"}, "exact"),
        ("ca", {"attention_kernel": "triton", "device": "cuda: a GPU"}, None),
        ("cbam", {"attention_kernel": "exact", "device": "cpu: a processor"}, "exact"),
        ("cbam", {"attention_kernel": "exact", "device": "cuda: a GPU"}, None),
        ("triplet", {"attention_kernel": "exact", "device": "cpu: a processor"}, "exact"),
        ({"name": "sa", "groups": 8}, {"attention_kernel": "exact", "device": "cpu: a processor"}, "exact"),
        ("sa", {"attention_kernel": "exact", "device": "cuda: a GPU"}, None),
        (
            {"name": "cbam", "spatial": False},
            {"attention_kernel": "exact", "device": "cpu: a processor"},
            None,
        ),
        ({"name": "frozen", "of": {"name": "ca"}}, {"attention_kernel": "exact", "device": "cpu: x"}, None),
        ("se", {"attention_kernel": "exact", "device": "cpu: a processor"}, None),
    ],
)
def test_a_record_is_expected_to_name_the_kernel_where_that_is_sure(make_spec, attention, here, named):
    assert _expected(make_spec(attention), here).get("attention_kernel") == named


def test_a_compiled_run_is_expected_to_name_the_formula(make_spec):
    here = {"attention_kernel": "exact", "device": "cpu: a processor"}
    spec = make_spec("cbam", recipe={"compile": "default"})
    assert _expected(spec, here)["attention_kernel"] == "formula"

"""--threads through every command that trains: one number, and a warning before a pair that is not clean."""

import json
import re
from pathlib import Path

import pytest
from tiny import RATES

from ema_lab.execution.threads import kept_threads
from ema_lab.store.job import RunOutcome
from ema_lab.store.store import RunStore


@pytest.fixture
def machines(monkeypatch):
    """Put a training of no time in the place of the real one; return the threads that each run was given."""
    seen: list[int | None] = []

    def train_run(spec, job, *, machine, track=None, report=None):
        from ema_lab.training.environment import device_name, instruction_set, versions
        from ema_lab.training.machine import choose_device

        seen.append(machine.num_threads)
        (job.folder / "curve.csv").write_text("epoch,val_top1\n1,50.0\n")
        if report is not None:
            report({"epoch": 1, "val_top1": 50.0})
        environment = {"device": device_name(choose_device("cpu")), "num_threads": machine.num_threads}
        environment |= {"instruction_set": instruction_set(), "versions": versions()}
        environment |= {"precision": spec.recipe.precision}
        metrics = {"top1": 50.0 + spec.seed, "loss": 1.0}
        return RunOutcome(metrics, 1, {"parameters": 1, "macs": 1}, 1.0, 1.0, environment, "0" * 64)

    monkeypatch.setattr("ema_lab.one_run.pipeline.train_run", train_run)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("ema_lab.execution.threads.available_cores", lambda: 16)
    return seen


CPU = ("--device", "cpu")


def test_workers_and_what_is_left_change_no_runs_threads(command, machines):
    said = command("plan", "tiny", *CPU).err.splitlines()[-1]
    assert said == "tiny: 2 threads a run (16 cores for 8 workers)"
    command("run", "tiny", "--workers", "1", "--only", "variant=none", "--seeds", "1", *CPU)
    command("run", "tiny", "--workers", "1", *CPU)
    assert machines == [2] * 4
    said = command("plan", "tiny", "--workers", "3", *CPU).err.splitlines()[-1]
    assert said == "tiny: 2 threads a run (kept for tiny in this store)"


@pytest.mark.parametrize("workers", ["1", "2", "5"])
def test_the_number_does_not_follow_from_workers(command, machines, workers):
    answer = command("run", "tiny", "--only", "seed=0", "--only", "variant=se", "--workers", workers, *CPU)
    assert "1 run to train with 1 worker, 2 threads each" in answer.err
    assert machines == [2]


def test_the_users_variable_is_the_default(command, machines, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert "3 threads a run (OMP_NUM_THREADS)" in command("plan", "tiny", *CPU).err
    command("run", "tiny", "--workers", "1", *CPU)
    assert machines == [3] * 4


def test_sweep_trial_and_tune_train_with_the_number_of_their_ablation(command, machines):
    Path("sweeps").mkdir()
    Path("sweeps/rates.yaml").write_text(RATES)
    command("run", "tiny", "--workers", "1", "--threads", "5", "--seeds", "1", *CPU)
    for words in (
        ("sweep", "rates", "--workers", "1"),
        ("trial", '{"base": "ablations/tiny.yaml/none", "seeds": [0], "data.val_images": 8}', "--no-wandb"),
        ("tune", "tiny", "--space", "rates", "--trials", "2", "--workers", "1"),
    ):
        before = len(machines)
        answer = command(*words, *CPU)
        assert answer.code == 0, answer.err
        assert set(machines[before:]) == {5}
    assert "tiny-tuned: 5 threads a run (as the finished runs of" in command("plan", "tiny-tuned", *CPU).err


@pytest.mark.parametrize(
    "words",
    [
        ("run", "tiny", "--workers", "1"),
        ("sweep", "rates", "--workers", "1"),
        ("trial", '{"base": "tiny/se", "seeds": [0], "data.val_images": 8}', "--no-wandb"),
        ("tune", "tiny", "--space", "rates", "--trials", "2", "--workers", "1"),
    ],
    ids=lambda words: words[0],
)
def test_every_command_that_trains_takes_a_number(command, machines, words):
    Path("sweeps").mkdir()
    Path("sweeps/rates.yaml").write_text(RATES)
    answer = command(*words, "--threads", "7", *CPU)
    assert answer.code == 0, answer.err
    assert set(machines) == {7}
    assert kept_threads(RunStore("runs"), "tiny") == 7
    assert command(*words, "--threads", "0", *CPU).code == 2


def test_a_pair_that_will_not_be_clean_is_said_before_it_is_trained(command, machines):
    command("run", "tiny", "--workers", "1", "--only", "variant=none", *CPU)
    answer = command("run", "tiny", "--workers", "1", "--threads", "1", "--only", "seed=1", *CPU)
    [warning, hint] = [line for line in answer.err.splitlines() if re.match("warning|hint", line)]
    words = "1 of 1 run to train will be no clean pair with the others of the seed"
    assert warning == f"warning: {words}, marked † (num_threads: 1 and 2)"
    assert hint == "hint: --threads 2 is what the finished runs had"
    assert answer.err.index("warning") < answer.err.index("done: se seed 1")
    command("run", "tiny", "--workers", "1", "--threads", "2", *CPU)
    table = command("report", "tiny", "--out", "out")
    assert "†" in table.out
    facts = (
        "device, number of devices, processor, precision, threads, batch pieces, attention kernel or versions"
    )
    assert f"not a clean pair: {facts}" in table.out


def test_what_ran_on_another_processor_is_said_and_marked(command, machines, monkeypatch):
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "avx2")
    command("run", "tiny", "--workers", "1", "--only", "variant=none", *CPU)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA")
    answer = command("run", "tiny", "--workers", "1", *CPU)
    assert "2 of 2 runs to train will be no clean pair" in answer.err
    assert re.search(r"\(instruction_set: \S+ and \S+, ONEDNN_MAX_CPU_ISA=AVX2\)", answer.err)
    assert "†" in command("report", "tiny", "--out", "out").out


def test_clean_pairs_are_trained_without_a_word(command, machines):
    command("run", "tiny", "--workers", "1", "--only", "variant=none", *CPU)
    assert "warning" not in command("run", "tiny", "--workers", "1", *CPU).err
    assert "†" not in command("report", "tiny", "--out", "out").out


def test_rows_of_different_precision_are_named_before_the_first_run(command, machines):
    path = Path("ablations/tiny.yaml")
    path.write_text(path.read_text() + "  half: {recipe.precision: bf16}\n")
    answer = command("run", "tiny", "--workers", "1", "--only", "seed=0", *CPU)
    assert "3 of 3 runs to train will be no clean pair" in answer.err
    assert "precision: bf16 and fp32" in answer.err


def test_the_plans_cells_say_nothing_of_threads(command, machines):
    assert "threads" not in json.dumps(json.loads(command("plan", "tiny", "--json", *CPU).out))

"""Functions behind the commands: the same runs and counts, events in order, errors raised."""

import json
from dataclasses import fields
from pathlib import Path

import pytest

import ema_lab
from ema_lab.cli.main import run as command_line
from ema_lab.errors import EmaLabError, SpecError, StoreError, UnknownNameError
from ema_lab.store.store import RunStore
from ema_lab.workflow import events
from ema_lab.workflow.execution import Execution, ExecutionOptions
from ema_lab.workflow.search.trial import try_trial

HERE = {"workers": 1, "device": "cpu"}
PAPER = """\
name: paper
title: A paper
year: 2024
source: Table 1
tables:
  small:
    title: Small
    setting: 8 x 8
    classes: 10
    image_size: 8
    base: {backbone: resnet20, placement: {after: block_end}}
    convention: {macs: macs_matmul, flops_per_mac: 1}
    rows:
      ResNet-20:
        claims: {parameters: 9.99M, flops: 9.99G}
"""


def contents(store: str) -> dict[str, object]:
    """Return what a store holds, without times and machines."""
    runs = RunStore(store)
    return {
        run_id: (runs.record(run_id).status, runs.record(run_id).metrics, runs.spec(run_id).resolved())
        for run_id in runs.run_ids()
    }


def test_run_leaves_the_store_that_the_command_leaves(trained):
    outcome = ema_lab.run("tiny", store="python", **HERE)
    assert command_line(["run", "tiny", "--workers", "1", "--device", "cpu", "--store", "command"]) == 0
    assert contents("python") == contents("command")
    assert (len(outcome.trained), outcome.done_before, outcome.failed, outcome.ok) == (4, (), (), True)
    assert set(outcome.trained) == set(contents("python"))


def test_run_keeps_what_is_done_and_reports_what_failed(trained):
    assert len(ema_lab.run("tiny", only={"variant": "none"}, **HERE).trained) == 2
    path = Path("ablations/tiny.yaml")
    path.write_text(path.read_text() + "  wild: {recipe.optimizer.lr: 0.3}\n")
    outcome = ema_lab.run("tiny", seeds=1, **HERE)
    assert (len(outcome.trained), len(outcome.done_before), outcome.ok) == (1, 1, False)
    [failed] = outcome.failed
    assert (failed.variant, failed.seed, failed.given_up) == ("wild", 0, False)
    assert "the loss is not finite" in failed.reason
    assert ema_lab.status("tiny", seeds=1).counts == {"done": 2, "pending": 1}


def test_events_come_in_the_order_of_the_work(trained):
    seen: list[events.Event] = []
    outcome = ema_lab.run("tiny", watch=seen.append, **HERE)
    seen = [event for event in seen if not isinstance(event, events.TrainingProgress)]
    kinds = [type(event) for event in seen]
    ended = [events.RunEnded] * 4
    checks = [events.ModelChecked, events.ModelChecked, events.ChecksEnded]
    start = [events.RunsChosen, *checks, events.TrainingStarted]
    end = [events.TrainingEnded, events.GridEnded]
    assert [kind for kind in kinds if kind is not events.UncleanPairs] == [*start, *ended, *end]
    assert (seen[0].runs, seen[0].workers) == (4, 1)
    runs = [event for event in seen if isinstance(event, events.RunEnded)]
    assert [(event.number, event.total, event.state) for event in runs] == [
        (number, 4, "done") for number in (1, 2, 3, 4)
    ]
    assert tuple(event.task.spec.run_id for event in runs) == outcome.trained
    assert seen[-1].outcome == outcome


def test_events_have_the_lines_that_the_command_prints(trained, capsys):
    lines: list[str] = []
    ema_lab.run("tiny", watch=lambda event: lines.extend(event.lines()), store="python", **HERE)
    command_line(["run", "tiny", "--workers", "1", "--device", "cpu", "--store", "command"])
    printed = capsys.readouterr().err.replace("command", "python").splitlines()
    assert [line for line in printed if not line.startswith(("[", "next: "))] == lines
    assert lines[0].startswith("tiny: 4 runs to train with 1 worker")


def test_an_exception_of_the_observer_ends_the_call_and_loses_no_run(trained):
    def watch(event):
        if isinstance(event, events.RunEnded) and event.number == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ema_lab.run("tiny", watch=watch, **HERE)
    assert ema_lab.status("tiny").counts == {"done": 2, "pending": 2}


def test_run_until_decided_counts_each_run_once(trained):
    outcome = ema_lab.run("tiny", until=ema_lab.Until(max_seeds=4), **HERE)
    assert len(outcome.trained) == len(set(outcome.trained)) == len(trained)
    assert outcome.done_before == ()
    assert [(one.row, one.baseline) for one in outcome.comparisons] == [("se", "none")]


def test_plan_and_status_agree_with_the_store(trained):
    assert [spec.seed for spec in ema_lab.plan("tiny", **HERE).pending] == [0, 1, 0, 1]
    ema_lab.run("tiny", only=["seed=0"], **HERE)
    found = ema_lab.status("tiny")
    assert (found.counts, found.is_over) == ({"done": 2, "pending": 2}, False)
    assert [row["top1"] for row in found.rows()] == [90.0, None, 92.0, None]


def test_sweep_returns_the_study_that_the_command_goes_on_with(trained):
    outcome = ema_lab.sweep("rates", **HERE)
    assert [one.choice["recipe.optimizer.lr"] for one in outcome.best] == [0.2, 0.1]
    assert (outcome.ok, len(trained)) == (True, 2)
    assert command_line(["sweep", "rates", "--workers", "1", "--device", "cpu"]) == 0
    assert len(trained) == 2


def test_tune_returns_winners_and_the_runs_that_compare_them(trained):
    outcome = ema_lab.tune("tiny", 2, space=ema_lab.Space("rates"), **HERE)
    rates = {row: trial.choice["recipe.optimizer.lr"] for row, trial in outcome.winners.items()}
    assert (rates, outcome.missing, outcome.ok) == ({"none": 0.2, "se": 0.2}, {}, True)
    assert outcome.final is not None
    assert outcome.final.ablation.name == "tiny-tuned"
    assert len(outcome.final.trained) == 4


def test_a_trial_returns_its_values(trained):
    how = Execution(device="cpu")
    text = '{"base": "tiny/se", "seeds": [0], "data.val_images": 8}'
    outcome = try_trial(text, how, report_to_wandb=False)
    assert (outcome.state, outcome.values) == ("done", {"val_top1": 92.1})


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda: ema_lab.run("tinny"), UnknownNameError, "did you mean 'tiny'"),
        (lambda: ema_lab.run("tiny", only={"variant": "eca"}), SpecError, "no cell of tiny"),
        (lambda: ema_lab.run("tiny", workers=0), SpecError, "workers must be from 1 to 4,096, got 0"),
        (lambda: ema_lab.run("tiny", timeout=0.0), SpecError, "timeout must be above zero"),
        (lambda: ema_lab.run("tiny", engine="slrm"), UnknownNameError, "did you mean 'slurm'"),
        (lambda: ema_lab.run("tiny", until=ema_lab.Until(max_seeds=1)), SpecError, "max_seeds must be 3"),
        (lambda: ema_lab.run("tiny", smoke=True, refresh=True), SpecError, "--refresh changes nothing"),
        (lambda: ema_lab.status("tiny", store="absent"), StoreError, "the store absent does not exist"),
        (lambda: ema_lab.sweep("rats"), UnknownNameError, "did you mean 'rates'"),
        (lambda: ema_lab.tune("tiny", 0), SpecError, "trials must be 1 or more, got 0"),
    ],
)
def test_a_wrong_request_is_an_exception_and_trains_nothing(trained, call, kind, words):
    with pytest.raises(kind, match=words) as caught:
        call()
    assert isinstance(caught.value, EmaLabError)
    assert (trained, Path("runs").exists()) == ([], False)


def test_the_keyword_arguments_are_the_fields_of_execution():
    assert ExecutionOptions.__optional_keys__ == {field.name for field in fields(Execution) if field.init}


def test_costs_are_the_rows_that_the_command_prints(trained, capsys):
    rows = ema_lab.costs("tiny", only={"variant": "se"})
    assert command_line(["cost", "tiny", "--only", "variant=se", "--json"]) == 0
    assert rows == json.loads(capsys.readouterr().out)
    assert rows[0]["delta_parameters"] > 0
    [layer, *_, total] = ema_lab.costs("tiny", only={"variant": "se"}, layers=True)
    assert (layer["attention"], total["layer"]) == ("se", "sum")


def test_a_report_has_tables_records_figures_and_files(trained, capsys):
    ema_lab.run("tiny", **HERE)
    built = ema_lab.report("tiny")
    assert command_line(["report", "tiny", "--json"]) == 0
    assert built.records() == json.loads(capsys.readouterr().out)
    assert [row.key for row in built.table().rows] == ["none", "se"]
    assert built.figure("tradeoff").drawing is not None
    files = built.files(Path("out")).write()
    assert Path("out/table.md") in files
    assert built.check(Path("out")).comparison == ((), ())
    Path("out/table.md").write_text("")
    assert built.check(Path("out"), only_tables=True).comparison.differences


@pytest.mark.parametrize(
    ("figure", "words"),
    [
        ("tradeof", "no figure is named 'tradeof'; did you mean 'tradeoff'"),
        ("heatmap", "heatmap needs factors"),
    ],
)
def test_a_figure_that_cannot_be_drawn_is_an_error(trained, figure, words):
    built = ema_lab.report("tiny")
    with pytest.raises(EmaLabError, match=words):
        built.figure(figure)


def test_an_audit_has_the_findings_that_the_command_prints(trained, capsys):
    folder = Path("reports/published")
    folder.mkdir(parents=True)
    (folder / "paper.yaml").write_text(PAPER)
    seen: list[events.Event] = []
    found = ema_lab.audit_claims("paper", out=Path("out"), watch=seen.append)
    assert seen == [events.CountingStarted(1)]
    assert command_line(["audit", "paper", "--json"]) == 0
    assert found.records() == json.loads(capsys.readouterr().out)
    assert [row["verdict"] for row in found.records()] == ["disagrees", "disagrees"]
    assert [path.name for path in found.files] == ["audit.md", "audit.tex", "audit.csv", "audit.json"]
    with pytest.raises(UnknownNameError, match="did you mean 'small'"):
        ema_lab.audit_claims("paper", tables=["smal"])


def test_timing_takes_enough_rounds():
    with pytest.raises(SpecError, match="rounds must be 8 or more, got 7"):
        ema_lab.Latency(rounds=7)

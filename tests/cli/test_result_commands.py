"""report, cost, diff and eval: data on standard output, words on standard error, files where asked."""

import csv
import errno
import io
import json
import os
import re
from pathlib import Path

import pytest
from tiny import TINY, TINY_REPORT, fake_outcome

from ema_lab.ablation.ablation import load_ablation
from ema_lab.execution import claim
from ema_lab.execution.executor import execute
from ema_lab.one_run.measurement import run_cost
from ema_lab.store.store import RunStore

COLUMNS = "columns: [top1, loss, delta, parameters, macs]\n"


class TestReport:
    def test_prints_the_table_with_what_its_signs_mean(self, command, trained):
        trained()
        answer = command("report", "tiny")
        assert (answer.code, answer.err) == (0, "")
        assert answer.out == (
            "Tiny table\n"
            "\n"
            "Variant           Top-1 (%)         Δ Top-1 vs none  Parameters  MACs (M)\n"
            "-------------------------------------------------------------------------\n"
            "none     90.50 ± 0.71 (n=2)                baseline       1,000      2.00\n"
            "se       92.50 ± 0.71 (n=2)  +2.00 (n=2, all equal)       1,000      2.00\n"
            "\n"
            "Mean ± sample standard deviation over n seeds.\n"
            "Δ: mean paired difference to 'none' over common seeds.\n"
            "MACs: multiply-adds for one image as fvcore counts them (convolutions, linear layers, matrix "
            "products, normalisations); one multiply-add is one.\n"
            "No row is marked as the best in Top-1: no test tells it apart (paired t tests, Holm-corrected "
            "over all pairs of rows, 5 %).\n"
            "All ±, intervals and tests are over seeds, for this test set: other test images would add to "
            "them.\n"
            "Test split, last epoch (synthetic).\n"
        )

    def test_json_has_unrounded_numbers_and_the_run_ids(self, command, trained):
        run_ids = trained()
        answer = command("report", "tiny", "--json")
        assert (answer.code, answer.err) == (0, "")
        none, se = json.loads(answer.out)
        assert none["variant"] == "none"
        assert none["run_ids"].split() == run_ids[:2]
        assert none["delta"] is None
        assert se["run_ids"].split() == run_ids[2:]
        assert (se["seeds"], se["n"], se["top1"], se["delta"], se["delta_n"]) == (2, 2, 92.5, 2.0, 2)
        assert se["top1_std"] == pytest.approx(0.5**0.5, rel=1e-15)
        assert (se["parameters"], se["macs"]) == (1000, 2_000_000)

    def test_out_writes_its_files_and_names_them(self, command, trained):
        run_ids = trained()
        answer = command("report", "tiny", "--out", "out/tiny")
        names = ["table.md", "table.tex", "table.csv", "table.html", "report.json", "index.html"]
        assert answer.out.splitlines()[-6:] == [f"out/tiny/{name}" for name in names]
        assert sorted(path.name for path in Path("out/tiny").iterdir()) == sorted(names)
        rows = list(csv.DictReader(io.StringIO(Path("out/tiny/table.csv").read_text())))
        assert rows[1]["run_ids"].split() == run_ids[2:]
        assert float(rows[1]["top1"]) == 92.5

    def test_with_json_and_out_standard_output_is_json_alone(self, command, trained):
        trained()
        answer = command("report", "tiny", "--out", "out", "--json")
        assert [row["variant"] for row in json.loads(answer.out)] == ["none", "se"]
        assert "out/table.md" in answer.err

    def test_an_empty_store_gives_a_table_of_holes(self, command, tree):
        before = tree()
        answer = command("report", "tiny")
        assert answer.code == 0
        assert answer.out.splitlines()[4].split() == ["none", "n/a", "baseline", "n/a", "n/a"]
        assert answer.out.splitlines()[5].split() == ["se", "n/a", "n/a", "n/a", "n/a"]
        assert "4 of 4 runs are not there" in answer.out
        assert tree() == before

    def test_a_failed_run_is_a_hole(self, command, trained):
        def train(spec, job):
            if spec.model.attention.name == "se" and spec.seed:
                raise RuntimeError("no")
            return fake_outcome(spec)

        trained(train=train)
        out = command("report", "tiny").out
        assert "92.00 (n=1 of 2)" in out
        assert "+2.00 (n=1 of 2)" in out
        assert "1 of 4 runs is not there" in out

    def test_the_store_can_be_named_by_the_environment(self, command, trained, monkeypatch):
        trained()
        Path("runs").rename("elsewhere")
        assert "4 of 4 runs are not there" in command("report", "tiny").out
        monkeypatch.setenv("EMA_LAB_STORE", "elsewhere")
        assert "runs are not there" not in command("report", "tiny").out


def read_only(*_args, **_kwargs):
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))


class TestCost:
    def test_counts_what_each_row_adds_to_the_baseline(self, command, tree):
        before = tree()
        answer = command("cost", "quickstart", "--json")
        rows = {row["variant"]: row for row in json.loads(answer.out)}
        assert answer.code == 0
        assert list(rows) == ["none", "se", "cbam", "ca", "ema [groups=4]", "ema [groups=8]", "ema-no-local"]
        assert rows["none"] == {
            "variant": "none",
            "parameters": 269_434,
            "delta_parameters": 0,
            "parameters_without_norm": 268_058,
            "delta_parameters_without_norm": 0,
            "macs": 2_540_160,
            "delta_macs": 0,
            "activations": 11_786,
            "delta_activations": 0,
            "parameters_trainable": 269_434,
        }
        # SE's two linear layers have 2 c (c / 16) weights; three blocks of each width
        assert rows["se"]["delta_parameters"] == sum(3 * 2 * c * (c // 16) for c in (16, 32, 64))
        assert all(row["parameters"] == 269_434 + row["delta_parameters"] for row in rows.values())
        assert all(row["macs"] == 2_540_160 + row["delta_macs"] for row in rows.values())
        after = tree()
        assert {path for path in after if path not in before and ".costs" not in path} == {"runs"}
        assert {path: after[path] for path in before} == before

    def test_only_keeps_the_comparison_with_the_baseline(self, command):
        [row] = json.loads(command("cost", "tiny", "--only", "variant=se", "--json").out)
        assert row["variant"] == "se"
        assert row["delta_parameters"] > 0

    def test_without_a_baseline_nothing_is_compared(self, command):
        Path("ablations/tiny.yaml").write_text(TINY.replace("baseline: none\n", ""))
        rows = json.loads(command("cost", "tiny", "--json").out)
        assert [row["delta_parameters"] for row in rows] == [None, None]

    @pytest.mark.parametrize(("convention", "key"), [("fvcore", "macs"), ("all", "macs_all")])
    def test_the_table_names_the_convention_and_has_thousands_apart(self, command, convention, key):
        answer = command("cost", "tiny", "--macs", convention)
        header, first, *_ = (re.split(r"\s{2,}", line) for line in answer.out.splitlines())
        assert f"MACs ({convention}, M)" in header
        assert "for one image" in answer.err
        assert (
            "activations: elements that convolutions, linear layers and matrix products write" in answer.err
        )
        assert first[1] == "269,722"  # ResNet-20 for RGB and ten classes
        assert key in json.loads(command("cost", "tiny", "--macs", convention, "--json").out)[0]

    def test_layers_are_the_modules_own_shares_and_their_sum(self, command):
        [delta] = json.loads(command("cost", "tiny", "--only", "variant=se", "--json").out)
        *layers, total = json.loads(command("cost", "tiny", "--layers", "--json").out)
        assert [row["variant"] for row in layers] == ["se"] * 9
        assert (layers[0]["layer"], layers[0]["channels"]) == ("layer1.0.bn2.attention", 16)
        assert total["layer"] == "sum"
        for name in ("parameters", "macs", "activations"):
            assert total[name] == sum(row[name] for row in layers) == delta[f"delta_{name}"]

    def test_times_rows_beside_their_baseline_and_keeps_what_it_measured(self, command):
        words = ("cost", "tiny", "--latency", "--rounds", "8", "--batch", "2", "--device", "cpu", "--json")
        [row] = json.loads(command(*words).out)
        assert (row["variant"], row["baseline"]) == ("se", "none")
        assert row["ratio_low"] < row["ratio"] < row["ratio_high"]
        assert row["images_per_second"] == pytest.approx(2000 / row["ms"])
        assert row["peak_mib"] is None
        assert json.loads(command(*words).out) == [row]
        assert json.loads(command(*words, "--fresh").out) != [row]
        assert command("store", "check").code == 0

    @pytest.mark.parametrize(
        ("words", "problem"),
        [
            (["--batch", "4"], "--batch changes nothing without --latency"),
            (["--latency", "--layers"], "--latency times whole models: it does not go with --layers"),
            (["--trained"], "--trained changes nothing without --latency"),
            (["--latency", "--trained", "--mode", "training"], "trained models are timed in inference"),
            (
                ["--latency", "--trained"],
                "no finished run of none, se (store runs); train them first: ema-lab run",
            ),
            (["--macs", "flops"], "--macs must be one of"),
        ],
    )
    def test_options_that_do_nothing_are_refused(self, command, words, problem):
        answer = command("cost", "tiny", *words)
        assert (answer.code, answer.out) == (2, "")
        assert problem in answer.err

    @pytest.mark.parametrize("words", [(), ("--layers",), ("--macs", "thop")])
    def test_a_store_that_cannot_be_written_costs_no_result(self, command, monkeypatch, words):
        Path("runs").mkdir()
        expected = command("cost", "tiny", *words, "--store", "runs").out
        monkeypatch.setattr("ema_lab.store.cost_cache.write_json", read_only)
        answer = command("cost", "tiny", *words, "--fresh")
        assert (answer.code, answer.out) == (0, expected)
        [line] = [line for line in answer.err.splitlines() if "warning" in line]
        rule = "the store runs cannot be written (Read-only file system)"
        assert line == f"warning: measurements are not kept: {rule}"

    def test_what_was_counted_with_another_source_is_counted_again(self, command, monkeypatch):
        calls = []
        monkeypatch.setattr(
            "ema_lab.one_run.measurement.run_cost", lambda spec: calls.append(spec) or run_cost(spec)
        )
        command("cost", "tiny")
        command("cost", "tiny")
        assert len(calls) == 2  # two models, once each
        monkeypatch.setattr("ema_lab.store.cost_cache.package_hash", lambda source: "another")
        command("cost", "tiny")
        assert len(calls) == 4


class TestDiff:
    def test_lists_what_differs_and_nothing_else(self, command, trained):
        none, _, se, _ = trained()
        answer = command("diff", none[:8], se, "--json")
        rows = {row["key"]: (row["first"], row["second"]) for row in json.loads(answer.out)}
        assert answer.code == 0
        assert rows.pop("source.module")
        assert rows == {
            "model.attention.name": (None, "se"),
            "model.attention.reduction": (None, 4),
            "metrics.top1": (90.0, 92.0),
        }
        assert answer.err.startswith("4 of ")

    def test_names_the_commits_of_every_repository_of_a_run(self, command, folder, monkeypatch):
        own = {"ema-lab": {"commit": "a" * 40, "dirty_sha256": None}}
        states = iter([own, {**own, "study": {"commit": "b" * 40, "dirty_sha256": "c" * 16}}])
        monkeypatch.setattr(claim, "repositories", lambda sources: next(states))
        specs = load_ablation("tiny").runs()[:2]
        execute(specs, train=lambda spec, job: fake_outcome(spec), store=RunStore("runs"))
        rows = json.loads(command("diff", *(spec.run_id for spec in specs), "--json").out)
        found = {
            row["key"]: row["second"] for row in rows if row["key"].startswith("environment.repositories")
        }
        assert found == {
            "environment.repositories.study.commit": "b" * 40,
            "environment.repositories.study.dirty_sha256": "c" * 16,
        }

    def test_a_run_does_not_differ_from_itself(self, command, trained):
        run_id = trained()[0]
        answer = command("diff", run_id, run_id)
        assert (answer.code, answer.out) == (0, "")
        assert answer.err.startswith("0 of ")

    def test_a_run_without_a_record_can_be_compared(self, command, trained):
        def train(spec, job):
            if spec.seed:
                raise RuntimeError("no")
            return fake_outcome(spec)

        run_ids = trained(train=train)
        rows = json.loads(command("diff", *run_ids[:2], "--json").out)
        assert {"key": "status", "first": "done", "second": "pending"} in rows


def test_evaluation_says_which_splits_there_are(command):
    command("run", "tiny", "--only", "variant=none", "--seeds", "1", "--device", "cpu")
    [run_id] = [path.parent.name for path in Path("runs").glob("*/record.json")]
    wrong = command("eval", run_id, "--split", "val", "--device", "cpu")
    assert (wrong.code, wrong.out) == (2, "")
    assert wrong.err == "ema-lab: the run has no split 'val'; it has train, test\n"
    [row] = json.loads(command("eval", run_id, "--split", "train", "--device", "cpu", "--json").out)
    assert (row["split"], row["images"]) == ("train", 32)
    assert command("eval", run_id, "--device", "cpu").out.split()[:3] == ["run_id", "split", "images"]


def test_the_report_compares_the_metric_that_it_names(command, trained):
    Path("reports/tiny.yaml").write_text(TINY_REPORT + COLUMNS + "metric: loss\n")
    trained()
    answer = command("report", "tiny")
    assert "Δ Loss vs none" in answer.out
    assert "Loss (nats)" in answer.out
    assert "0.00 (n=2, all equal)" in answer.out

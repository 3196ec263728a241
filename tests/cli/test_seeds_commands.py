"""plan --power and run --until-decided: what seeds can show, and seeds only where they are needed."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from tiny import TINY, TINY_DETECTION, fake_outcome

from ema_lab.statistics.power import upper_std
from ema_lab.store.store import RunStore

ABLATIONS = {
    task: text.replace("seeds: [0, 1]", "seeds: [0, 1, 2]") + "  eca: {model.attention: eca}\n"
    for task, text in (("classification", TINY), ("detection", TINY_DETECTION))
}
BOTH = pytest.mark.parametrize(
    "three",
    ["classification", pytest.param("detection", marks=pytest.mark.slow)],
    indirect=True,
)
NOISE = [0.03, -0.05, 0.02, 0.06, -0.04, 0.01, -0.02, 0.05, -0.06, 0.04, -0.01, 0.03]
GAIN = {"none": 0.0, "se": 1.0, "eca": 0.0}


def outcome(spec):
    """SE is one point better; ECA is not."""
    name = spec.model.attention.name
    noise = NOISE[(spec.seed * (1 + len(name))) % len(NOISE)]
    made_up = fake_outcome(spec)
    score = 90.0 + spec.seed + GAIN[name] + noise
    return replace(made_up, metrics=dict.fromkeys(made_up.metrics, score))


@pytest.fixture
def three(folder, request):
    """Write an ablation of three rows and three seeds; of a classifier, unless a parameter names the task."""
    text = ABLATIONS[getattr(request, "param", "classification")]
    Path("ablations/tiny.yaml").write_text(text)


class TestUntilDecided:
    words = ("run", "tiny", "--until-decided", "--workers", "1", "--device", "cpu")

    def test_seeds_are_added_only_where_the_plan_may_decide(self, command, three, fake_training):
        trained = fake_training(outcome)
        answer = command(*self.words, "--max-seeds", "8", "--json")
        rows = {row["variant"]: row for row in json.loads(answer.out)}
        assert rows["se"]["decision"] == "better"
        assert rows["eca"]["decision"] == "futile"
        assert 3 <= rows["eca"]["n"] < 8
        assert rows["se"]["low"] < 1.0 < rows["se"]["high"]
        assert len(trained) == len(set(trained))
        assert "1 of 2 comparisons decided; 1 futile (the seeds up to the limit would hardly" in answer.err
        assert "group-sequential paired t tests of at most 8 seeds, fixed in advance" in answer.err
        assert "hint: a report with `seeds: {decided: 8}` shows these seeds" in answer.err
        count = len(trained)
        assert command(*self.words, "--max-seeds", "8", "--json").out == answer.out
        assert len(trained) == count

    @BOTH
    def test_seeds_are_added_only_where_the_comparison_is_open(self, command, three, fake_training):
        trained = fake_training(outcome)
        answer = command(*self.words, "--open-ended", "--max-seeds", "8", "--json")
        assert answer.code == 0
        rows = {row["variant"]: row for row in json.loads(answer.out)}
        assert rows["se"]["decision"] == "better"
        assert rows["eca"]["decision"] == "open"
        assert 3 < rows["se"]["n"] < 8
        assert rows["eca"]["n"] == 8
        assert rows["se"]["low"] < 1.0 < rows["se"]["high"]
        assert len(trained) == len(set(trained)) == 8 + 8 + rows["se"]["n"]
        assert "1 of 2 comparisons decided; 1 open" in answer.err
        assert "at most 5 % chance of any false difference" in answer.err
        assert "hint: a report with `seeds: decided` shows these seeds" in answer.err

    @BOTH
    def test_called_again_it_goes_on_from_the_records(self, command, three, fake_training):
        trained = fake_training(outcome)
        words = (*self.words, "--open-ended", "--max-seeds")
        first = command(*words, "6", "--json")
        count = len(trained)
        assert command(*words, "6", "--json").out == first.out
        assert len(trained) == count
        more = command(*words, "9", "--json")
        assert len(trained) == count + 2 * 3
        assert {row["variant"]: row["n"] for row in json.loads(more.out)}["eca"] == 9
        store = RunStore("runs")
        seeds = sorted(store.spec(run_id).seed for run_id in trained)
        assert seeds[-1] == 8  # they count on from the file's

    @BOTH
    def test_a_margin_closes_what_does_not_matter(self, command, three, fake_training):
        fake_training(outcome)
        answer = command(*self.words, "--margin", "0.5", "--json")
        rows = {row["variant"]: row for row in json.loads(answer.out)}
        assert rows["eca"]["decision"] == "equal"
        assert rows["eca"]["n"] < 20
        assert -0.5 < rows["eca"]["low"] < rows["eca"]["high"] < 0.5

    def test_a_failed_run_adds_no_seeds(self, command, three, fake_training):
        def fails(spec):
            if spec.model.attention.name == "eca":
                raise RuntimeError("no")
            return outcome(spec)

        trained = fake_training(fails)
        assert command(*self.words, "--max-seeds", "5").code == 1
        assert max(RunStore("runs").spec(run_id).seed for run_id in trained) == 2

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["--max-seeds", "5"], "--max-seeds changes nothing without --until-decided"),
            (["--open-ended"], "--open-ended changes nothing without --until-decided"),
            (["--until-decided", "--max-seeds", "2"], "--max-seeds must be 3 or more"),
            (["--until-decided", "--max-seeds", "101"], "must be 100 or less unless the end is open"),
            (["--until-decided", "--metric", "top2"], "no metric is named 'top2'"),
            (["--until-decided", "--only", "variant=se"], "se of tiny has none"),
            (["--until-decided", "--only", "variant=none"], "no row to compare"),
            (["--until-decided", "--smoke"], "--smoke decides nothing"),
        ],
    )
    def test_what_cannot_be_meant_is_refused(self, command, three, tree, words, message):
        before = tree()
        answer = command("run", "tiny", *words)
        assert answer.code == 2
        assert message in answer.err
        assert tree() == before


class TestPower:
    @BOTH
    def test_the_spread_comes_from_finished_runs(self, command, three, trained):
        trained(train=lambda spec, job: outcome(spec))
        answer = command("plan", "tiny", "--power", "--json")
        found = json.loads(answer.out)
        rows = {row["seeds"]: row for row in found if row["difference"] is None}
        assert list(rows) == [3, 5, 10, 20]
        (half,) = (row for row in found if row["difference"] is not None)
        assert half["difference"] == pytest.approx(rows[3]["detectable_holm"] / 2)
        assert half["seeds_holm"] > half["seeds"] > 3
        assert rows[3]["detectable"] > rows[5]["detectable"] > rows[20]["detectable"] > 0
        assert rows[5]["detectable_holm"] > rows[5]["detectable"]
        origin = r"differences: (\S+) \(upper 80% limit of (\S+), pooled over .*, degrees of freedom: 3.2\)"
        (numbers,) = re.findall(origin, answer.err)
        assert float(numbers[0]) == pytest.approx(upper_std(float(numbers[1]), 3.2), rel=0.01)
        assert "with 3 seeds you can see" in answer.err

    def test_or_is_given_before_any_run(self, command, three, tree):
        before = tree()
        words = ("plan", "tiny", "--power", "--std", "0.4", "--difference", "0.5", "--difference", "2")
        answer = command(*words)
        assert answer.code == 0
        assert (
            "with 3 seeds you can see 1.85 points in any row (1.31 if there were one comparison); "
            in answer.err
        )
        assert "; for 0.5 you need 9 seeds; for 2 you need 3 seeds" in answer.err
        assert answer.out.splitlines()[-3].split() == ["difference", "seeds", "seeds_holm"]
        assert answer.out.splitlines()[-2].split() == ["0.5", "8", "9"]
        assert tree() == before

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["--power"], "no row of tiny has two finished seeds"),
            (["--std", "0.4"], "--std changes nothing without --power"),
            (["--power", "--std", "0"], "--std must be above zero"),
            (["--power", "--std", "1", "--metric", "x"], "no metric is named 'x'"),
        ],
    )
    def test_what_cannot_be_meant_is_refused(self, command, three, words, message):
        answer = command("plan", "tiny", *words)
        assert answer.code == 2
        assert message in answer.err


class TestReportOfDecidedSeeds:
    @pytest.mark.parametrize(
        ("words", "seeds", "interval", "limit"),
        [
            (
                [],
                "{decided: 8}",
                "repeated",
                "at most 8 seeds, fixed in advance; differences taken as normal",
            ),
            (["--open-ended"], "decided", "always-valid", "at most a limit"),
        ],
    )
    def test_it_shows_the_added_seeds_with_the_intervals_of_the_run(
        self, command, three, fake_training, words, seeds, interval, limit
    ):
        fake_training(outcome)
        decided = json.loads(command(*TestUntilDecided.words, *words, "--max-seeds", "8", "--json").out)
        report = Path("reports/tiny.yaml")
        plain = json.loads(command("report", "tiny", "--json").out)
        assert [row["n"] for row in plain] == [3, 3, 3]
        report.write_text(report.read_text() + f"seeds: {seeds}\ncolumns: [top1, delta, p]\n")
        rows = {row["variant"]: row for row in json.loads(command("report", "tiny", "--json").out)}
        for one in decided:
            row = rows[one["variant"]]
            assert (row["n"], row["delta_n"]) == (one["n"], one["n"])
            assert (row["delta"], row["delta_low"], row["delta_high"]) == (
                one["delta"],
                one["low"],
                one["high"],
            )
        assert rows["se"]["p"] < 0.05 <= rows["eca"]["p"]
        text = command("report", "tiny").out
        assert f"which were added until it was decided ({limit}); its {interval} 95 % interval" in text
        assert "marked as the best" not in text

    def test_a_plan_of_fewer_seeds_than_the_file_has_is_refused(self, command, three):
        Path("ablations/tiny.yaml").write_text(ABLATIONS["classification"].replace("[0, 1, 2]", "4"))
        report = Path("reports/tiny.yaml")
        report.write_text(report.read_text() + "seeds: {decided: 3}\ncolumns: [top1, delta]\n")
        answer = command("report", "tiny")
        assert answer.code == 2
        assert "the ablation tiny has 4 seeds in its file, more than the 3 planned" in answer.err

    def test_columns_that_need_fixed_seeds_are_refused(self, command, three):
        report = Path("reports/tiny.yaml")
        report.write_text(report.read_text() + "seeds: decided\ncolumns: [top1, wilcoxon]\n")
        answer = command("report", "tiny")
        assert answer.code == 2
        assert "'wilcoxon' needs a fixed number of seeds" in answer.err

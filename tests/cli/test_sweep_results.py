"""The commands sweep show, plot and export, dashboard, and the choice of a command by its first word."""

import csv
import http.client
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import optuna
import pytest

from ema_lab.search.mirror import trial_runs
from ema_lab.search.objective import read_objectives
from ema_lab.search.report.figures import search_figures
from ema_lab.search.storage import quiet_optuna
from ema_lab.search.strategy import choose_strategy
from ema_lab.search.study import RUN_IDS, VALUES, WARM, Search, SweepStudy
from ema_lab.search.sweep import load_sweep
from ema_lab.statistics.search import expected_best

HEAD = """\
name: {name}
method: random
metric: {{name: val_top1, goal: maximize}}
command: [ema-lab, trial, "${{args_json}}"]
parameters:
  base: {{value: tiny/se}}
  seeds: {{value: [0, 1]}}
  data.val_images: {{value: 8}}
"""
PARAMETERS = """\
  recipe.optimizer.lr: {distribution: log_uniform_values, min: 0.001, max: 1.0}
  recipe.optimizer.weight_decay: {distribution: log_normal, mu: -8, sigma: 1}
  model.attention: {values: [none, {name: se, reduction: 4}, {name: se, reduction: 2}]}
"""
FIGURES = {"importance", "slice", "history", "budget", "contour-lr-weight_decay", "intermediate"}


@pytest.fixture
def searched(folder):
    """Write the sweep `small` and fill a study of it with trials that nobody trained."""

    def search(count=12, *, objective=(), parameters=PARAMETERS, states=("COMPLETE",)) -> Search:
        Path("sweeps").mkdir(exist_ok=True)
        Path("sweeps/small.yaml").write_text(HEAD.format(name="small") + parameters)
        sweep = load_sweep("small")
        objectives = read_objectives(sweep, objective)
        made = Search(sweep, objectives, choose_strategy(sweep, objectives), Path("runs").absolute())
        study = SweepStudy(made)
        for number in range(count):
            add_trial(study, number, states[number % len(states)])
        return made

    return search


def add_trial(study: SweepStudy, number: int, state: str) -> None:
    """Add a trial: of the search's own sampling, better the nearer lr is to 0.1."""
    state = optuna.trial.TrialState[state]
    with quiet_optuna():
        drawn = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=number))
        held = drawn.ask({one.name: one.optuna_distribution() for one in study.sweep.parameters}).params
        choice = {one.key: one.value_of(held[one.name]) for one in study.sweep.parameters}
        top1 = 90 - 20 * abs(choice.get("recipe.optimizer.lr", 0.1) - 0.1)
        numbers = {"val_top1": top1, "macs": 1e6 * (number % 5 + 1)}
        done = state.name == "COMPLETE"
        attributes = {VALUES: choice, RUN_IDS: [f"{number:016x}"], "message": "" if done else state.name}
        study.study.add_trial(
            optuna.trial.create_trial(
                state=state,
                params=held,
                distributions={one.name: one.optuna_distribution() for one in study.sweep.parameters},
                values=[numbers[one.name] for one in study.objectives] if done else None,
                user_attrs={**attributes, WARM: number == 0},
                intermediate_values={1: top1 - 5, 2: top1} if done else {1: top1 - 9},
            )
        )


class TestGroup:
    def test_the_first_word_is_a_command_or_the_file_of_run(self, command):
        assert "unexpected" not in command("sweep", "nope").err
        for words in (["nope"], ["--trials", "3", "nope"], ["run", "nope"], ["show", "nope"]):
            answer = command("sweep", *words)
            assert answer.code == 2
            assert answer.err.startswith("ema-lab: no sweep is named 'nope'"), words

    def test_a_file_that_is_called_like_a_command_is_named_by_its_path(self, command):
        Path("show.yaml").write_text(HEAD.format(name="show") + PARAMETERS)
        answer = command("sweep", "./show.yaml")
        assert (answer.code, answer.out) == (2, "")
        assert "show.yaml has no run_cap" in answer.err

    @pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
    def test_its_help_names_what_there_is(self, command, words):
        answer = command("sweep", *words)
        assert answer.code == 0
        for name in ("sweep show", "sweep plot", "sweep export", "dashboard"):
            assert f"ema-lab {name} quick_search" in answer.out


class TestNothingIsCreated:
    @pytest.mark.parametrize(
        "words",
        [
            ["sweep", "show"],
            ["sweep", "plot", "--out", "o"],
            ["sweep", "export", "--out", "o.csv"],
            ["dashboard"],
        ],
    )
    def test_without_a_search(self, command, folder, tree, words):
        Path("sweeps").mkdir()
        Path("sweeps/small.yaml").write_text(HEAD.format(name="small") + PARAMETERS)
        before = tree()
        answer = command(*words, "small")
        assert answer.code == 2
        assert re.match(
            "ema-lab: there is no search of small in runs; start one with `ema-lab sweep .*`", answer.err
        )
        assert answer.err.count("\n") == 1
        assert tree() == before

    def test_with_one(self, command, searched, tree):
        searched()
        before = tree()
        assert command("sweep", "show", "small").code == 0
        assert tree() == before

    def test_of_other_objectives_or_another_file(self, command, searched):
        searched(objective=("top1:max", "macs:min"))
        answer = command("sweep", "show", "small")
        assert answer.code == 2
        assert "there is one by --objective val_top1:max --objective macs:min" in answer.err
        assert (
            command("sweep", "show", "small", "--objective", "top1:max", "--objective", "macs:min").code == 0
        )
        Path("sweeps/small.yaml").write_text(HEAD.format(name="small") + PARAMETERS.replace("1.0", "2.0"))
        assert "there is one of another" in command("sweep", "show", "small").err


def test_a_torn_last_line_is_left_as_it_is(command, searched):
    searched()
    journal = Path("runs/.sweeps/small.journal")
    journal.write_bytes(journal.read_bytes() + b'{"op_code": 4, "wor')
    before = journal.read_bytes()
    answer = command("sweep", "show", "small")
    assert (answer.code, len(answer.out.splitlines())) == (0, 11)
    assert journal.read_bytes() == before


class TestShow:
    def test_the_best_come_first(self, command, searched):
        searched(states=("COMPLETE", "PRUNED", "COMPLETE", "FAIL"))
        answer = command("sweep", "show", "small", "--json")
        rows = json.loads(answer.out)
        assert len(rows) == 6
        assert [row["val_top1"] for row in rows] == sorted((row["val_top1"] for row in rows), reverse=True)
        assert {row["status"] for row in rows} == {"done", "warm"}
        assert "5 finished, 3 pruned, 3 failed, 1 learned from the store" in answer.err
        assert "6 more with --all" in answer.err

    def test_all_has_pruned_and_failed_ones_at_the_end(self, command, searched):
        searched(states=("COMPLETE", "PRUNED", "COMPLETE", "FAIL"))
        rows = json.loads(command("sweep", "show", "small", "--all", "--json").out)
        states = [row["status"].replace("warm", "done") for row in rows]
        assert states == ["done"] * 6 + ["pruned"] * 3 + ["failed"] * 3
        assert [row["message"] for row in rows[6:]] == ["PRUNED"] * 3 + ["FAIL"] * 3

    def test_of_two_objectives_it_is_the_pareto_front(self, command, searched):
        objectives = ("--objective", "top1:max", "--objective", "macs:min")
        searched(objective=objectives[1::2])
        front = json.loads(command("sweep", "show", "small", *objectives, "--json").out)
        everything = json.loads(command("sweep", "show", "small", *objectives, "--all", "--json").out)
        assert all(row["pareto"] for row in front)
        assert [row["pareto"] for row in everything] == [True] * len(front) + [False] * (12 - len(front))
        for row in everything[len(front) :]:
            assert any(f["val_top1"] >= row["val_top1"] and f["macs"] <= row["macs"] for f in front)


class TestExport:
    def test_a_csv_has_the_real_values_of_every_trial(self, command, searched):
        made = searched(states=("COMPLETE", "PRUNED"))
        assert command("sweep", "export", "small", "--out", "out/t.csv").code == 0
        rows = list(csv.DictReader(Path("out/t.csv").read_text().splitlines()))
        trials = SweepStudy(made).trials()
        assert [int(row["trial"]) for row in rows] == list(range(12))
        for row, trial in zip(rows, trials, strict=True):
            assert (
                float(row["recipe.optimizer.weight_decay"]) == trial.choice["recipe.optimizer.weight_decay"]
            )
            choice = trial.choice["model.attention"]
            assert row["model.attention"] == (
                choice if choice == "none" else json.dumps(choice, sort_keys=True)
            )
            assert row["val_top1"] == (str(trial.values[0]) if trial.values else "")
            assert row["run_ids"] == f"{trial.number:016x}"
        assert [row["message"] for row in rows] == ["", "PRUNED"] * 6

    def test_json_has_the_same(self, command, searched):
        searched()
        command("sweep", "export", "small", "--out", "t.json")
        shown = json.loads(command("sweep", "show", "small", "--all", "--json").out)
        assert sorted(shown, key=lambda row: row["trial"]) == json.loads(Path("t.json").read_text())

    @pytest.mark.parametrize("out", [[], ["--out", "trials.txt"], ["--out", "trials"]])
    def test_another_ending_is_refused(self, command, searched, tree, out):
        searched(1)
        before = tree()
        answer = command("sweep", "export", "small", *out)
        assert answer.code == 2
        assert "Missing option '--out'" in answer.err or "file.csv or file.json" in answer.err
        assert tree() == before


@pytest.mark.slow
class TestPlot:
    def test_every_figure_is_there_with_its_caption(self, command, searched):
        searched(14, states=("COMPLETE", "COMPLETE", "PRUNED"))
        answer = command("sweep", "plot", "small", "--out", "out")
        assert answer.code == 0
        assert {path.stem for path in Path("out").glob("*.txt")} >= FIGURES
        for name in FIGURES:
            for ending in ("pdf", "svg", "png"):
                assert Path(f"out/{name}.{ending}").stat().st_size > 1000
        svg = Path("out/slice.svg").read_text()
        assert "quantile" not in svg + "".join(path.read_text() for path in Path("out").glob("*.txt"))
        assert "4 pruned, 0 failed, 1 learned from the store" in Path("out/history.txt").read_text()
        table = Path("out/trials.md").read_text()
        assert (
            "| Trial | Status | Validation top-1 (%) | lr | weight_decay | attention | Runs | Why |" in table
        )
        assert re.search(r"\| 0 \| warm \| \d\d\.\d\d \|", table)
        assert re.search(r"\| 2 \| pruned \| n/a \|", table)
        assert len(list(csv.DictReader(Path("out/trials.csv").read_text().splitlines()))) == 14

    @pytest.mark.usefixtures("unpainted")
    def test_two_objectives_have_a_pareto_front(self, command, searched):
        objectives = ("--objective", "top1:max", "--objective", "macs:min")
        searched(objective=objectives[1::2])
        assert command("sweep", "plot", "small", "--out", "out", *objectives).code == 0
        assert {"pareto.png", "importance-macs.png", "slice-val_top1.png"} <= {
            p.name for p in Path("out").iterdir()
        }
        assert "Pareto front" in Path("out/pareto.txt").read_text()

    @pytest.mark.usefixtures("unpainted")
    def test_what_has_nothing_to_show_says_so(self, command, searched):
        searched(6, parameters=PARAMETERS.splitlines(keepends=True)[0])
        answer = command("sweep", "plot", "small", "--out", "out")
        assert answer.code == 0
        assert "figure contour: Search small. Not drawn: needs two parameters" in answer.err
        assert not Path("out/contour.png").exists()
        assert Path("out/slice.png").exists()

    @pytest.mark.usefixtures("unpainted")
    def test_one_finished_trial_has_no_importance(self, command, searched):
        searched(3, states=("COMPLETE", "PRUNED", "FAIL"))
        answer = command("sweep", "plot", "small", "--out", "out")
        assert answer.code == 0
        assert "figure importance: Search small. Not drawn: needs 2 finished trials, got 1" in answer.err
        assert Path("out/history.png").exists()


OPTIMISTIC = "the best of 12 validation values is optimistic, since it was chosen by them"


class TestOptimism:
    """The best of several validation values is called optimistic wherever it is shown."""

    @pytest.mark.usefixtures("unpainted")
    def test_on_the_terminal(self, command, searched):
        searched()
        for words in (
            ["show", "small"],
            ["export", "small", "--out", "t.csv"],
            ["plot", "small", "--out", "o"],
        ):
            assert f"small: {OPTIMISTIC}; seeds that no trial has seen" in command("sweep", *words).err

    @pytest.mark.usefixtures("unpainted")
    def test_in_captions_tables_and_data(self, command, searched):
        searched()
        command("sweep", "plot", "small", "--out", "out")
        drawn = [path for path in Path("out").glob("*.txt") if path.with_suffix(".png").exists()]
        assert len(drawn) >= len(FIGURES)
        for path in [*drawn, Path("out/trials.md")]:
            assert OPTIMISTIC[1:] in path.read_text(), path
        rows = list(csv.DictReader(Path("out/trials.csv").read_text().splitlines()))
        assert [row["best_of"] for row in rows if row["best_of"]] == ["12"]
        rows = json.loads(command("sweep", "show", "small", "--json").out)
        assert [row["best_of"] for row in rows][:3] == [12, None, None]

    def test_in_mirrored_trials(self, searched):
        study = SweepStudy(searched())
        tagged = [one.run_id for one in trial_runs(study) if "best: optimistic" in one.tags]
        assert len(tagged) == 1
        assert tagged[0].endswith(f"-{study.ranked()[0].first_number}")

    def test_a_pareto_front_is_optimistic_too(self, command, searched):
        objectives = ("--objective", "top1:max", "--objective", "macs:min")
        searched(objective=objectives[1::2])
        answer = command("sweep", "show", "small", *objectives)
        assert "the Pareto front of 12 validation values is" in answer.err

    def test_a_single_value_was_not_chosen(self, command, searched):
        study = SweepStudy(searched(1))
        assert "optimistic" not in command("sweep", "show", "small").err
        assert [one.tags for one in trial_runs(study)] == [("warm",)]


class TestBudget:
    def test_the_figure_has_the_expectation_of_the_searchs_own_trials(self, command, searched):
        study = SweepStudy(searched(9, states=("COMPLETE", "COMPLETE", "PRUNED")))
        [figure] = [each for each in search_figures(study) if each.name == "budget"]
        own = [trial for trial in study.trials() if not trial.warm]  # trial 0 is warm
        values = [trial.values[0] for trial in own if trial.values]
        assert (len(own), len(values)) == (8, 5)
        wanted = expected_best([*values, *[min(values)] * 3], +1, range(1, 9))
        [line] = figure.drawing.axes[0].lines
        assert line.get_ydata().tolist() == pytest.approx([each.mean for each in wanted])
        assert "3 pruned or failed trials count as the worst finished one" in figure.caption
        assert "drawn at random from the 8 ended trials" in figure.caption

    @pytest.mark.slow
    def test_one_value_is_no_curve(self, command, searched):
        searched(2)
        assert command("sweep", "plot", "small", "--out", "out").code == 0
        assert "needs two finished trials of this search, got 1" in Path("out/budget.txt").read_text()


class TestDashboard:
    def test_without_the_package_one_line_says_how_to_get_it(self, command, searched, monkeypatch):
        searched(1)
        monkeypatch.setattr("ema_lab.search.dashboard.PACKAGE", "no_such_package")
        answer = command("dashboard", "small")
        assert (answer.code, answer.out) == (2, "")
        assert answer.err == "ema-lab: optuna-dashboard is not installed; pip install 'ema-lab[dashboard]'\n"

    @pytest.mark.slow
    def test_it_shows_the_search_until_it_is_stopped(self, command, searched):
        searched(2)
        program = [sys.executable, "-c", "from ema_lab.cli.main import main; main()"]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(
            [*program, "dashboard", "--port", "0"], stderr=subprocess.PIPE, text=True, env=environment
        )
        try:
            line = process.stderr.readline()
            port = int(re.search(r"small at http://127\.0\.0\.1:(\d+)/dashboard/studies/0", line)[1])
            assert get(port, "/dashboard")[0] == 200
            status, text = get(port, "/api/studies")
            assert status == 200
            assert json.loads(text)["study_summaries"][0]["study_name"].startswith("small-")
            assert get(port, "/api/studies", "elsewhere.example")[0] == 403
            taken = command("dashboard", "small", "--port", str(port))
            assert taken.code == 2
            assert taken.err.startswith(f"ema-lab: cannot listen on 127.0.0.1:{port}")
        finally:
            process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=180)
        assert process.returncode == 130
        assert "Traceback" not in rest


def get(port: int, path: str, host: str = "127.0.0.1") -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path, headers={"Host": f"{host}:{port}"})
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


class TestMirror:
    def test_the_value_of_a_trial_and_the_curve_of_its_first_run_have_names_of_their_own(self, searched):
        made = searched(2, states=("COMPLETE", "PRUNED"))
        folder = made.store.folder(f"{0:016x}")
        folder.mkdir()
        (folder / "curve.csv").write_text("epoch,val_top1\n1,50.0\n2,60.0\n")
        study = SweepStudy(made)
        first, second = trial_runs(study)
        assert first.summary == {"objective/val_top1": study.trials()[0].values[0]}
        assert [row["val_top1"] for row in first.curve] == [50.0, 60.0]
        assert (first.group, first.name, first.tags) == ("small", "trial-0", ("warm",))
        assert first.config.items() >= study.trials()[0].choice.items()
        assert (second.summary, second.curve, second.tags) == ({}, [], ("pruned",))

    @pytest.mark.slow
    def test_each_trial_is_a_run_and_twice_sends_nothing(self, command, searched, monkeypatch):
        monkeypatch.setenv("WANDB_MODE", "offline")
        made = searched(2, states=("COMPLETE", "PRUNED"))
        answer = command("sweep", "push", "small", "--to", "wandb", "--project", "p")
        assert answer.code == 0
        assert "2 sent, 0 replaced, 0 unchanged" in answer.err
        folder = Path("runs/.mirror/sweeps/wandb-offline/p/small").resolve()
        assert f"hint: wandb sync {folder}/*/wandb/offline-run-*" in answer.err
        assert {path.name for path in folder.iterdir()} == {f"{made.study_name}-{n}" for n in range(2)}
        files = sorted(folder.glob("*/wandb/offline-run-*/*.wandb"))
        assert len(files) == 2
        again = command("sweep", "push", "small", "--to", "wandb", "--project", "p")
        assert "0 sent, 0 replaced, 2 unchanged" in again.err
        assert sorted(folder.glob("*/wandb/offline-run-*/*.wandb")) == files

    def test_a_trial_that_was_finished_since_takes_the_place_that_it_had(
        self, command, searched, monkeypatch
    ):
        monkeypatch.setenv("WANDB_MODE", "offline")
        made = searched(2, states=("COMPLETE", "PRUNED"))
        call = ("sweep", "push", "small", "--to", "wandb", "--project", "p")
        command(*call)
        study = SweepStudy(made)
        pruned = study.study.get_trials()[1]
        monkeypatch.setattr(study.results, "values", lambda run_ids: (90.0,))
        assert study._add(pruned.user_attrs[VALUES], instead_of=pruned)
        assert "1 sent" not in command(*call).err
        folder = Path("runs/.mirror/sweeps/wandb-offline/p/small").resolve()
        names = {f"{made.study_name}-{n}" for n in range(2)}
        assert {path.name for path in folder.iterdir()} == names
        assert json.loads((folder / f"{made.study_name}-1" / "sent.json").read_text())["name"] == "trial-2"

    def test_a_trial_that_no_longer_exists_is_reported_and_removed_on_request(
        self, command, searched, monkeypatch
    ):
        monkeypatch.setenv("WANDB_MODE", "offline")
        made = searched(1)
        call = ("sweep", "push", "small", "--to", "wandb", "--project", "p")
        command(*call)
        folder = Path("runs/.mirror/sweeps/wandb-offline/p/small").resolve()
        for name in (f"{made.study_name}-5", "small-0123abcd-5"):  # the second is another study's
            (folder / name).mkdir()
            note = {"run_id": name, "name": "trial-5", "sha256": ""}
            (folder / name / "sent.json").write_text(json.dumps(note))
        words = f"no trial of {made.study_name} any more: trial-5 ({made.study_name}-5)"
        assert f"{words}; --prune removes it\n" in command(*call).err
        answer = command(*call, "--prune")
        assert f"removed, {words}\n" in answer.err
        assert "0123abcd" not in answer.err
        assert {path.name for path in folder.iterdir()} == {f"{made.study_name}-0", "small-0123abcd-5"}

    @pytest.mark.parametrize(
        "words",
        [
            ["--to", "mlflow"],
            ["--to", "wandb", "--out", "t.csv"],
            ["--out", "t.csv", "--project", "p"],
            ["--out", "t.csv", "--prune"],
        ],
    )
    def test_what_does_not_go_together_is_refused(self, command, searched, tree, words):
        searched(1)
        before = tree()
        assert command("sweep", "export", "small", *words).code == 2
        assert tree() == before

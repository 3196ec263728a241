"""The command tune, as a user calls it; what trains is a fake, but for the last test."""

import json

import pytest
from curved import write_curve
from tiny import rates

from ema_lab.ablation.ablation import load_ablation
from ema_lab.cli.main import run
from ema_lab.specs.definition import find_definition
from ema_lab.store.job import RunOutcome

CALL = ["tune", "quickstart", "--space", "lr_weight_decay_digits", "--trials", "3", "--device", "cpu"]
ROWS = ["--only", "variant=none", "--only", "variant=se", "--workers", "1"]


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """Work in an empty folder, with a training that takes no time; return the list of what it trains."""
    specs = []

    def train_run(spec, job, *, machine, track, report=None):
        specs.append(spec)
        if spec.model.attention.name in train_run.failing and spec.data.val_images:
            raise ValueError("as the test wants it")
        metric = "map" if spec.data.facts.task == "detection" else "top1"
        score = 90 - 10 * abs(spec.recipe.optimizer.lr - 0.1)
        row = {"epoch": spec.recipe.epochs, f"val_{metric}": score}
        write_curve(job.folder, [row])
        if report is not None:
            report(row)
        return RunOutcome({metric: 50.0 + spec.seed}, spec.recipe.epochs, {"macs": 10, "parameters": 10})

    train_run.failing = set()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ema_lab.one_run.pipeline.train_run", train_run)
    return specs, train_run


def test_rows_are_searched_alike_and_compared_on_fresh_seeds(trained, tmp_path, capsys):
    specs, _ = trained
    assert run([*CALL, *ROWS, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["row"], row["done"], row["n"]) for row in rows] == [("none", 3, 3), ("se", 3, 3)]
    searched = [spec for spec in specs if spec.data.val_images]
    final = [spec for spec in specs if not spec.data.val_images]
    assert {spec.seed for spec in searched} == {0}
    assert {spec.seed for spec in final} == {1, 2, 3}
    assert [row["best of"] for row in rows] == [4, 4]  # three trials and the recipe as written
    choices = {
        name: [s.recipe.optimizer.lr for s in searched if s.model.attention.name == name]
        for name in ("none", "se")
    }
    assert choices["none"] == choices["se"]
    best = min(choices["none"], key=lambda lr: abs(lr - 0.1))
    assert {spec.recipe.optimizer.lr for spec in final} == {best}
    assert {row["recipe.optimizer.lr"] for row in rows} == {best}
    tuned = load_ablation(tmp_path / "ablations" / "quickstart-tuned.yaml")
    assert {spec.run_id for spec in tuned.runs()} == {spec.run_id for spec in final}
    count = len(specs)
    assert run([*CALL, *ROWS, "--json"]) == 0
    assert len(specs) == count
    assert json.loads(capsys.readouterr().out) == rows


DETECTORS = rates(
    "{distribution: log_uniform_values, min: 0.001, max: 0.2}",
    method="bayes",
    metric="val_map",
    base="digit_scenes_quick/none",
    images=100,
)


@pytest.mark.slow
def test_rows_of_detectors_are_searched_alike_too(trained, tmp_path, capsys):
    specs, _ = trained
    (tmp_path / "rates.yaml").write_text(DETECTORS)
    call = ["tune", "digit_scenes_quick", "--space", "rates.yaml", "--trials", "2", "--device", "cpu"]
    assert run([*call, "--workers", "1", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["row"], row["done"], row["n"]) for row in rows] == [("none", 2, 2), ("ema", 2, 2)]
    searched = [spec for spec in specs if spec.data.val_images]
    assert {spec.seed for spec in specs if not spec.data.val_images} == {1, 2}
    rates = [
        [spec.recipe.optimizer.lr for spec in searched if spec.model.attention.name == name]
        for name in ("none", "ema")
    ]
    assert rates[0] == rates[1]
    tuned = load_ablation(tmp_path / "ablations" / "digit_scenes_quick-tuned.yaml")
    assert list(tuned.rows()) == ["none", "ema"]


def test_a_row_without_a_finished_trial_is_a_hole_and_the_exit_code_says_so(trained, tmp_path, capsys):
    trained[1].failing.add("se")
    assert run([*CALL, *ROWS]) == 1
    said = capsys.readouterr().err
    assert "se: 3 of 3 trials FAILED" in said
    assert "se: no trial of 3 was finished" in said
    assert list(load_ablation(tmp_path / "ablations" / "quickstart-tuned.yaml").rows()) == ["none"]


def test_a_failed_trial_is_tried_again_once_its_cause_is_mended(trained, capsys):
    specs, train_run = trained
    train_run.failing.add("se")
    assert run([*CALL, *ROWS, "--max-attempts", "1"]) == 1
    train_run.failing.clear()
    count = len(specs)
    capsys.readouterr()
    assert run([*CALL, *ROWS, "--max-attempts", "2", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["row"], row["done"], row["failed"]) for row in rows] == [("none", 3, 0), ("se", 3, 0)]
    assert [spec.model.attention.name for spec in specs[count:]] == [
        "se"
    ] * 7  # as written, three trials, three seeds


def test_the_recipe_as_written_is_tried_before_all_trials_and_stays_where_none_beats_it(
    trained, tmp_path, capsys
):
    specs, _ = trained
    base = load_ablation("quickstart").rows()
    assert run([*CALL, *ROWS]) == 0
    first = specs[:2]
    for spec, row in zip(first, ("none", "se"), strict=True):
        assert (spec.seed, spec.data.val_images) == (0, 300)
        assert spec.recipe == base[row][0].spec.recipe  # lr 0.1, which the fake likes best
    answer = capsys.readouterr()
    for row in ("none", "se"):
        assert f"{row}: no trial beats the recipe as written, so the table has that recipe." in answer.out
    tuned = load_ablation(tmp_path / "ablations" / "quickstart-tuned.yaml")
    assert all(cell.spec.recipe == base["none"][0].spec.recipe for cell in tuned.cells)
    text = (tmp_path / "ablations" / "quickstart-tuned.yaml").read_text()
    assert "as written, val_top1 90; no trial beats the recipe as written" in text
    assert "row 'none': tpe, unpruned, study lr_weight_decay_digits-tune-tpe-unpruned-0-" in answer.err


def test_a_recipe_as_written_that_diverges_is_said_in_the_tables_notes(
    trained, tmp_path, monkeypatch, capsys
):
    def diverges(spec, job, *, machine, track, report=None):
        if spec.recipe == recipe and spec.data.val_images and spec.model.attention.name == "none":
            raise FloatingPointError("the training loss is nan")
        return train_run(spec, job, machine=machine, track=track, report=report)

    _, train_run = trained
    recipe = load_ablation("quickstart").rows()["none"][0].spec.recipe
    monkeypatch.setattr("ema_lab.one_run.pipeline.train_run", diverges)
    assert run([*CALL, *ROWS, "--json"]) == 1
    rows = {row["row"]: row for row in json.loads(capsys.readouterr().out)}
    assert (
        "the recipe as written failed in the search (FloatingPointError: the training"
        in rows["none"]["notes"]
    )
    assert (rows["none"]["as written val_top1"], rows["none"]["done"]) == (None, 3)
    assert rows["se"]["trial"] == "as written"


def test_a_winner_at_chance_and_one_worse_than_the_recipe_as_written_are_said(
    trained, tmp_path, monkeypatch, capsys
):
    """Of se every trial and final run guesses; of none the tuned runs lose to the ablation's own."""

    def guesses(spec, job, *, machine, track, report=None):
        top1 = 10.0 if spec.model.attention.name == "se" else 60.0 + spec.recipe.optimizer.lr
        write_curve(job.folder, [{"epoch": spec.recipe.epochs, "val_top1": top1}])
        own = not spec.data.val_images and spec.seed == 0
        return RunOutcome({"top1": 90.0 if own else top1}, spec.recipe.epochs, {"macs": 10, "parameters": 10})

    monkeypatch.setattr("ema_lab.one_run.pipeline.train_run", guesses)
    assert run(["run", "quickstart", *ROWS[:2], "--device", "cpu", "--workers", "1", "--seeds", "1"]) == 0
    assert run([*CALL, *ROWS, "--only", "seed=0"]) == 0
    out = capsys.readouterr().out
    words = "at chance: guessing among 10 classes gives 10"
    assert f"se: the winner's val_top1 of 10 is {words}." in out
    assert f"se: Top-1 after tuning: top1 of 10 is {words}." in out
    assert "none: Top-1 after tuning (60." in out
    assert ") is worse than as written (90.00; n=1, and n=1 on the ablation's own seeds)." in out
    assert "none: the winner's" not in out
    file = tmp_path / "ablations" / "quickstart-tuned.yaml"
    text = file.read_text()
    caveats = [line for line in out.splitlines() if line.startswith(("se: ", "none: "))]
    assert len(caveats) > 2
    assert run(["report", "quickstart-tuned"]) == 0
    said = capsys.readouterr().out
    assert [line for line in said.splitlines() if line.startswith(("se: ", "none: "))] == caveats
    assert run([*CALL, *ROWS, "--only", "seed=0"]) == 0
    assert file.read_text() == text


def test_a_search_begun_before_pruners_were_called_unpruned_goes_on(trained, tmp_path, capsys):
    folder = tmp_path / "runs" / ".sweeps"
    assert run([*CALL, *ROWS]) == 0
    (new,) = folder.glob("*-unpruned-0.journal")
    assert not list(folder.glob("*-none-0.journal"))
    new.rename(folder / new.name.replace("unpruned", "none"))
    capsys.readouterr()
    assert run([*CALL, *ROWS]) == 0
    assert not list(folder.glob("*-unpruned-0.journal"))


def test_seeds_of_an_earlier_search_are_not_fresh(trained, tmp_path):
    specs, _ = trained
    assert run([*CALL, *ROWS]) == 0
    assert run([*CALL, *ROWS, "--search-seeds", "1,4"]) == 0
    tuned = load_ablation(tmp_path / "ablations" / "quickstart-tuned.yaml")
    assert {cell.seed for cell in tuned.cells} == {2, 3, 5}
    count = len(specs)
    assert run([*CALL, *ROWS, "--search-seeds", "1,4"]) == 0
    assert len(specs) == count


@pytest.mark.slow
def test_seeds_of_searches_of_other_models_are_fresh(trained, tmp_path):
    assert run([*CALL, "--only", "variant=cbam", "--workers", "1", "--search-seeds", "1,"]) == 0
    assert run([*CALL, *ROWS]) == 0
    tuned = load_ablation(tmp_path / "ablations" / "quickstart-tuned.yaml")
    assert {cell.seed for cell in tuned.cells} == {1, 2, 3}


@pytest.mark.parametrize("line", ["  recipe.epochs: {value: 2}", "  recipe.epochs: {values: [2, 3]}"])
def test_other_lengths_in_the_search_are_reported(trained, tmp_path, capsys, line):
    shipped = find_definition("sweeps", "lr_weight_decay_digits").read_text(encoding="utf-8")
    text = shipped.replace("lr_weight_decay_digits", "short").replace("command:", f"{line}\ncommand:")
    (tmp_path / "short.yaml").write_text(text)
    assert run([*CALL[:2], "--space", "short.yaml", *CALL[4:], *ROWS]) == 0
    text = (tmp_path / "ablations" / "quickstart-tuned.yaml").read_text()
    said = capsys.readouterr().err
    if "value:" in line:
        words = "none, se: searched with 2 epochs, trained with 6"
        assert (f"# {words}\n" in text, f"{words}\n" in said) == (True, True)
    else:  # then the winner has its own
        assert "searched with" not in text + said


def test_a_winner_is_one_by_the_values_that_its_runs_have_now(trained, tmp_path, capsys):
    call = [*CALL, *ROWS[:2], "--workers", "1"]
    assert run([*call, "--json"]) == 0
    (before,) = json.loads(capsys.readouterr().out)
    specs, _ = trained
    best = next(s for s in specs if s.recipe.optimizer.lr == before["recipe.optimizer.lr"])
    folder = tmp_path / "runs" / best.run_id
    record = json.loads((folder / "record.json").read_text())
    (folder / "curve.csv").write_text(f"epoch,val_top1\n{best.recipe.epochs},1.0\n")
    record["source"]["backbone"] = "0" * 16
    (folder / "record.json").write_text(json.dumps(record))
    assert run([*call, "--json"]) == 0
    answer = capsys.readouterr()
    (row,) = json.loads(answer.out)
    assert row["recipe.optimizer.lr"] != before["recipe.optimizer.lr"]
    assert (before["stale trials"], row["stale trials"]) == (0, 1)
    words = "1 trial is stale: the source of backbone has changed since"
    assert f"none: {words}" in answer.err
    assert words in (tmp_path / "ablations" / "quickstart-tuned.yaml").read_text()


def test_unequal_budgets_are_not_compared(trained, tmp_path, capsys):
    assert run([*CALL, "--only", "variant=none", "--workers", "1"]) == 0
    (tmp_path / "ablations" / "quickstart-tuned.yaml").unlink()
    assert run([*CALL, *ROWS, "--budget", "0.001s"]) == 1
    assert "of 3 trials a row and its recipe as written, se lacks 4" in capsys.readouterr().err
    assert not (tmp_path / "ablations" / "quickstart-tuned.yaml").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--search-seeds", "0,x"], "--search-seeds takes a number of seeds"),
        (["--out", "tuned.txt"], "--out must be a file NAME.yaml"),
        (["--out", "mine.yaml"], "not made by tune"),
        (["--space", "lr_weight_decay"], "for the rows none, se: data.val_images"),
    ],
)
def test_a_wrong_request_trains_nothing(trained, tmp_path, capsys, options, words):
    (tmp_path / "mine.yaml").write_text("name: mine\n")
    assert run([*CALL, *ROWS, *options]) == 2
    assert words in capsys.readouterr().err
    assert not trained[0]
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_two_rows_on_digits(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "short.yaml").write_text(
        "name: short\nseeds: [0]\nbaseline: none\n"
        "base: {model: {backbone: resnet20}, data: {name: digits},"
        " recipe: {use: digits-quick, epochs: 1, schedule: {name: cosine}}}\n"
        "variants:\n  none: {model.attention: none}\n  se: {model.attention: se}\n"
    )
    call = ["tune", "short.yaml", "--space", "lr_weight_decay_digits", "--trials", "2", "--workers", "1"]
    assert run([*call, "--device", "cpu", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["row"], row["done"], row["n"]) for row in rows] == [("none", 2, 1), ("se", 2, 1)]
    assert all(0 < row["top1"] <= 100 for row in rows)

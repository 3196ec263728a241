"""Data of the searches of a store: entries of the overview, and the page of each."""

import json
from pathlib import Path

import pytest
import search_fakes as fakes

from ema_lab.reports.page.site import Site
from ema_lab.search.objective import read_objectives
from ema_lab.search.report.pages import CHANGED, GONE, SweepPages
from ema_lab.search.strategy import choose_strategy
from ema_lab.search.study import Search
from ema_lab.search.sweep import load_sweep
from ema_lab.search.trial import Trier
from ema_lab.store.store import RunStore

HEAD = fakes.HEAD.replace("name: sweep", "name: rates").replace("BASE", "base").replace("METRIC", "top1")
PARAMETERS = fakes.LR + fakes.GROUPS


@pytest.fixture
def searched(folder):
    """Return a function that searches `sweeps/rates.yaml`."""
    Path("ablations/base.yaml").write_text(fakes.ABLATION)
    Path("sweeps").mkdir()
    write("run_cap: 8\n")

    def search(trials=4, objectives=(), at_seed=None):
        sweep = load_sweep("rates")
        read = read_objectives(sweep, objectives)
        one = Search(sweep, read, choose_strategy(sweep, read), Path("runs"))
        return fakes.run(one, Trier(one, fakes.FakeTrain(Path("log"), at_seed or {}), trials, 3))

    return search


def write(more=""):
    text = HEAD.format(method="random", seeds="[0]") + PARAMETERS + more
    Path("sweeps/rates.yaml").write_text(text)


@pytest.fixture
def pages(folder) -> SweepPages:
    return SweepPages(RunStore("runs"))


def test_a_local_sweep_is_there_before_its_search(searched, pages):
    [entry] = pages.entries()
    assert (entry["name"], entry["href"], entry["note"]) == ("rates", None, "no search yet")
    assert (entry["over"], entry["cap"]) == (0, 8)
    assert not Path("runs").exists()


def test_an_entry_counts_trials_and_has_the_best_value(searched, pages):
    study = searched(4)
    [entry] = pages.entries()
    assert (entry["counts"]["done"], entry["over"], entry["cap"]) == (4, 4, 8)
    assert entry["href"] == f"/sweeps/{study.study.study_name}"
    best = study.best()[0]
    assert entry["best"] == [f"Validation top-1 (%): {best.values[0]:.2f} (trial {best.number})"]
    searched(6)
    assert pages.entries()[0]["over"] == 6


def test_a_page_has_trials_parameters_and_importance(searched, pages):
    study = searched(6)
    data = pages.data(study.study.study_name)
    assert data is not None
    json.dumps(data, allow_nan=False)
    assert (data["kind"], data["name"], data["cap"]) == ("sweep", "rates", 8)
    assert [parameter["label"] for parameter in data["parameters"]] == ["lr", "groups"]
    assert [parameter["log"] for parameter in data["parameters"]] == [True, False]
    assert data["parameters"][1]["choices"] == ["2", "4", "8"]
    first, *others = data["trials"]
    assert first["best"]
    assert not any(trial["best"] for trial in others)
    values = [trial["values"][0] for trial in data["trials"]]
    assert values == sorted(values, reverse=True)
    assert first["texts"] == [f"{values[0]:.2f}"]
    assert first["choice"]["model.attention.groups"] in {"2", "4", "8"}
    assert isinstance(first["choice"]["recipe.optimizer.lr"], float)
    assert any("is optimistic" in note for note in data["notes"])
    [importance] = data["importance"]
    assert {name for name, _ in importance["shares"]} <= {"lr", "groups"}
    assert importance["note"]


def test_two_objectives_have_a_front(searched, pages):
    study = searched(6, ["top1:max", "macs:min"])
    [entry] = pages.entries()
    assert entry["note"] == "val_top1:max and macs:min"
    assert len(entry["best"]) == 2
    data = pages.data(study.study.study_name)
    assert data is not None
    front = [trial for trial in data["trials"] if trial["best"]]
    assert len(front) == len(study.best())
    assert [objective["sign"] for objective in data["objectives"]] == [1, -1]
    assert front[0]["values"][1] == pytest.approx(float(front[0]["texts"][1].replace(",", "")), abs=0.01)


def test_failed_trials_say_why(searched, pages):
    study = searched(2, at_seed={0: "fail"})
    data = pages.data(study.study.study_name)
    assert data is not None
    assert {trial["state"] for trial in data["trials"]} == {"failed"}
    assert all("bad seed 0" in trial["message"] for trial in data["trials"])
    assert all(trial["values"] is None for trial in data["trials"])
    assert data["importance"][0]["shares"] == []
    assert pages.entries()[0]["best"] == []


@pytest.mark.parametrize(
    ("break_it", "note"), [("change", CHANGED), ("remove", GONE), ("spoil", "rates.yaml")]
)
def test_a_search_whose_file_does_not_fit_is_counted_without_a_page(searched, pages, break_it, note):
    name = searched(3).study.study_name
    path = Path("sweeps/rates.yaml")
    if break_it == "change":
        path.write_text(path.read_text().replace("min: 0.001", "min: 0.002"))
    elif break_it == "remove":
        path.unlink()
    else:
        path.write_text("name: rates\n")
    [entry] = pages.entries()
    assert (entry["href"], entry["counts"]["done"]) == (None, 3)
    assert note in entry["note"]
    assert pages.data(name) is None


@pytest.mark.parametrize("text", ["no journal\n{}\n", "{}\n{}\n", "[]\n1\n"])
def test_a_journal_that_cannot_be_read_is_named(searched, pages, text):
    searched(2)
    Path("runs/.sweeps/rates.journal").write_text(text)
    [entry] = pages.entries()
    assert "rates.journal" in entry["note"]
    assert entry["href"] is None


def test_reading_writes_nothing(searched, pages, tree):
    study = searched(2)
    before = tree()
    pages.entries()
    pages.data(study.study.study_name)
    pages.trials()
    assert tree() == before


def test_the_runs_of_trials_are_named_and_have_pages(searched, pages):
    study = searched(2)
    site = Site({}, RunStore("runs"), whole=True, sweeps=pages)
    answer = site.answer("/_data")
    assert answer is not None
    data = json.loads(answer[1])["data"]
    assert {run["trial"]["text"] for run in data["runs"]} == {"rates, trial 0", "rates, trial 1"}
    href = data["sweeps"][0]["href"]
    assert href.endswith(study.study.study_name)
    page = site.answer(href)
    assert page is not None
    assert b'data-kind="sweep"' in page[1]
    assert site.answer(f"{href}/data") is not None
    assert site.answer("/sweeps/other") is None
    assert site.answer(data["runs"][0]["href"]) is not None
    before = site.version()
    searched(3)
    assert site.version() != before

"""Costs of rows without a finished run: from runs of the same model, and from what `cost` has kept."""

import json
from pathlib import Path

import pytest
from tiny import TINY, fake_outcome

from ema_lab.ablation.ablation import load_ablation
from ema_lab.reports.page.site import Site
from ema_lab.store import cost_cache
from ema_lab.store.cost_cache import CostCache, cached_counts
from ema_lab.store.store import RunStore

COUNTS = {"parameters": 1234567, "macs": 2_500_000, "activations": 10, "uncounted": {}}
TEXTS = {"parameters": "1,234,567", "macs": "2.50"}


@pytest.fixture
def store(folder) -> RunStore:
    return RunStore("runs")


def specs(name="tiny"):
    return {row: cells[0].spec for row, cells in load_ablation(name).rows().items()}


def keep(store, spec, counts=COUNTS, version="1", what="count"):
    cache = CostCache(store.root, {"torch": version})
    assert cache.get((spec,), {"what": what}, lambda: counts) == counts


def counted(store, path="/ablations/tiny/data"):
    answer = Site({}, store, whole=True).answer(path)
    assert answer is not None
    return json.loads(answer[1])["data"]["counted"]


class TestKeptCounts:
    def test_without_any_nothing_is_known(self, store):
        assert cached_counts(store.root, specs()) == {}

    def test_each_model_has_its_own(self, store):
        keep(store, specs()["se"])
        assert cached_counts(store.root, specs()) == {"se": COUNTS}

    def test_counts_of_another_source_are_not_taken(self, store, monkeypatch):
        keep(store, specs()["se"])
        monkeypatch.setattr(cost_cache, "_counting", lambda: ["changed"])
        assert cached_counts(store.root, specs()) == {}

    def test_other_measurements_and_damaged_files_are_not_taken(self, store):
        keep(store, specs()["se"], what="layers")
        (store.root / ".costs" / "bad.json").write_text("{")
        assert cached_counts(store.root, specs()) == {}

    def test_of_several_versions_the_latest_is_taken(self, store):
        import os

        keep(store, specs()["se"], {**COUNTS, "macs": 1}, version="1")
        for path in (store.root / ".costs").glob("*.json"):
            os.utime(path, (1.0, 1.0))
        keep(store, specs()["se"], version="2")
        assert cached_counts(store.root, specs())["se"]["macs"] == COUNTS["macs"]


class TestPage:
    def test_rows_without_a_finished_run_show_what_is_kept(self, store, trained):
        trained(keep=lambda spec: spec.model.attention.name == "none")
        assert counted(store) == {}
        for spec in specs().values():
            keep(store, spec)
        found = counted(store)
        assert list(found) == ["se"]
        assert {key: found["se"][key] for key in TEXTS} == TEXTS

    def test_a_finished_run_of_the_same_model_in_another_row_is_enough(self, store, trained):
        Path("ablations/tiny.yaml").write_text(TINY + "axes: {recipe.epochs: [1, 20]}\n")
        trained(keep=lambda spec: spec.recipe.epochs == 1)
        found = counted(store)
        assert set(found) == {"none [epochs=20]", "se [epochs=20]"}
        assert found["se [epochs=20]"] == {"parameters": "1,000", "macs": "2.00"}

    def test_a_row_with_a_finished_run_has_its_own_costs(self, store, trained):
        trained(train=lambda spec, job: fake_outcome(spec))
        for spec in specs().values():
            keep(store, spec)
        assert counted(store) == {}

    def test_new_counts_are_a_change(self, store, trained):
        trained(keep=lambda spec: spec.seed == 0)
        site = Site({}, store, whole=True)
        before = site.version()
        keep(store, specs()["se"])
        assert site.version() != before

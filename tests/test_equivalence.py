"""Comparisons and output of `make equivalence`, without its training."""

import json
import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))  # the command lies beside this file
import equivalence
from equivalence import DifferenceError, changed, check_facts, differences, merged, probes, rendered, worktree

from ema_lab.ablation.ablation import load_ablation
from ema_lab.registry.catalogue import ATTENTIONS, BACKBONES, DATASETS
from ema_lab.store.source import Sources
from ema_lab.store.staleness import EQUIVALENT, Equivalence, load_equivalences

A, B, C, D = ("abcd"[number] * 16 for number in range(4))
OTHER = {"module": A, "backbone": A, "data": A, "training": A}


def entry(old, new, part="module", reason="a reason at length"):
    return Equivalence(part=part, old=old, new=new, reason=reason)


def arrows(items):
    return [(item.part, item.old, item.new) for item in items]


class TestProbes:
    def test_hold_every_shipped_name(self):
        trees = probes()
        models = [tree["model"] for tree in trees]
        assert {model["backbone"] for model in models} >= set(BACKBONES)
        assert {tree["data"]["name"] for tree in trees} == set(DATASETS)
        names = {model["attention"]["name"] for model in models if "attention" in model}
        assert names >= set(ATTENTIONS) - {"none"}
        wrapped = {
            (model["attention"]["name"], model["attention"]["of"]["name"])
            for model in models
            if "of" in model.get("attention", {})
        }
        assert {("frozen", "ema"), ("matched", "ema"), ("frozen", "se"), ("matched", "triplet")} <= wrapped

    @pytest.mark.slow
    def test_of_todays_source_are_all_understood(self):
        trees = probes()
        found = equivalence.hashes(equivalence.ROOT, trees)
        assert None not in found
        assert changed(found, found) == []
        check_facts(trees, found, found)

    def test_training_uses_every_file_of_a_module(self):
        sources = Sources()
        found = [sources.files(cell.spec) for cell in load_ablation(equivalence.TRAINED["equivalence"]).cells]
        trained = {item.package_path for parts in found for files in parts.values() for item in files}
        named = (ATTENTIONS[name].target.partition(":")[0] for name in ATTENTIONS if name != "none")
        assert trained >= {f"{module.removeprefix('ema_lab.').replace('.', '/')}.py" for module in named}


class TestChanges:
    def test_are_those_of_each_part(self):
        then = [{"source": OTHER}, {"source": {**OTHER, "data": B}}, None]
        now = [{"source": {**OTHER, "module": C}}, {"source": {**OTHER, "data": D}}, {"source": OTHER}]
        assert changed(then, now) == [("data", B, D), ("module", A, C)]

    def test_of_unreadable_sources_are_refused(self):
        with pytest.raises(DifferenceError, match="the source of data cannot be read"):
            changed([{"source": OTHER}], [{"source": {**OTHER, "data": ""}}])

    def test_of_facts_and_losses_are_refused(self):
        spec = {"data": {"name": "digits"}}
        with pytest.raises(DifferenceError, match="the facts of digits were"):
            check_facts([spec], [{"facts": {"mean": 1}}], [{"facts": {"mean": 2}}])
        with pytest.raises(DifferenceError, match="is refused now"):
            check_facts([spec], [{"facts": {}}], [None])
        check_facts([spec], [None], [{"facts": {}}])

    def test_added_since_hold_as_they_did_before(self):
        spec = {"data": {"name": "digits"}}
        check_facts([spec], [{"facts": {}}], [{"facts": {"task": "classification"}}])
        with pytest.raises(DifferenceError, match="the facts of digits were"):
            check_facts([spec], [{"facts": {}}], [{"facts": {"task": "detection"}}])


class TestMerged:
    def test_keeps_chains_sorted_without_repetition(self):
        found = [entry(B, C, "training"), entry(C, D)]
        earlier = [entry(B, C), entry(A, B), entry(A, B, "backbone")]
        assert arrows(merged(earlier, [*found, *found])) == [
            *[("module", A, B), ("module", B, C), ("module", C, D)],
            *[("backbone", A, B), ("training", B, C)],
        ]

    def test_replaces_what_was_declared_of_the_same_source(self):
        assert arrows(merged([entry(A, B)], [entry(A, C), entry(A, D)])) == [
            ("module", A, C),
            ("module", A, D),
        ]

    def test_leads_nowhere_from_todays_source(self):
        assert arrows(merged([entry(A, B)], [entry(B, A)])) == [("module", B, A)]

    def test_is_read_back_from_its_text(self, tmp_path):
        items = [entry(A, B, reason='a "quoted" reason: with a colon'), entry(B, C, "data")]
        (tmp_path / "list.yaml").write_text(rendered(EQUIVALENT.read_text(encoding="utf-8"), items))
        assert load_equivalences(tmp_path / "list.yaml") == items
        head = EQUIVALENT.read_text(encoding="utf-8").partition("equivalent:")[0]
        assert (tmp_path / "list.yaml").read_text().startswith(head)


@pytest.fixture
def stores(tmp_path):
    """Two stores that hold the same finished run."""
    run = tmp_path / "then" / "0123456789abcdef"
    run.mkdir(parents=True)
    record = {
        "status": "done",
        "chosen_epoch": 1,
        "data_sha256": "0",
        "metrics": {"top1": 50.0},
        "environment": {"num_threads": 1},
    }
    (run / "record.json").write_text(json.dumps(record))
    np.savez(run / "predictions.npz", logits=np.zeros((2, 3), dtype=np.float32))
    (run / "curve.csv").write_text("epoch,train_loss,train_seconds\n1,0.5,3.25\n")
    torch.save({"state_dict": {"model.weight": torch.zeros(3), "x": torch.ones(2)}}, run / "last.ckpt")
    shutil.copytree(tmp_path / "then", tmp_path / "now")
    return tmp_path / "then", tmp_path / "now"


def edit_record(folder, **values):
    record = json.loads((folder / "record.json").read_text())
    (folder / "record.json").write_text(json.dumps({**record, **values}))


CHANGES = {
    "status": lambda run: edit_record(run, status="failed"),
    "chosen_epoch": lambda run: edit_record(run, chosen_epoch=2),
    "top1": lambda run: edit_record(run, metrics={"top1": 50.000000000000007}),
    "num_threads": lambda run: edit_record(run, environment={"num_threads": 2}),
    "predictions.npz": lambda run: np.savez(
        run / "predictions.npz", logits=np.array([[0, 0, 0], [0, 0, -0.0]], dtype=np.float32)
    ),
    "curve.csv": lambda run: (run / "curve.csv").write_text("epoch,train_loss,train_seconds\n1,0.50,3.25\n"),
    "last.ckpt": lambda run: torch.save(
        {"state_dict": {"model.weight": torch.tensor([0, 0, 1e-45]), "x": torch.ones(2)}}, run / "last.ckpt"
    ),
    "best.ckpt": lambda run: torch.save({"state_dict": {"weight": torch.ones(2)}}, run / "best.ckpt"),
}


class TestDifferences:
    def test_of_equal_runs_are_none(self, stores):
        assert list(differences(*stores)) == []

    def test_of_times_and_of_what_has_come_since_are_none(self, stores):
        run = stores[1] / "0123456789abcdef"
        (run / "curve.csv").write_text("epoch,train_loss,train_seconds,more\n1,0.5,9.75,1\n")
        np.savez(run / "predictions.npz", logits=np.zeros((2, 3), dtype=np.float32), run_id=np.array("x"))
        edit_record(run, metrics={"top1": 50.0, "ece": 0.1})
        assert list(differences(*stores)) == []

    @pytest.mark.parametrize("what", CHANGES)
    def test_are_named(self, stores, what):
        CHANGES[what](stores[1] / "0123456789abcdef")
        assert list(differences(*stores)) == [f"0123456789abcdef: {what} differs"]

    def test_of_runs_that_are_missing_are_named(self, stores):
        shutil.rmtree(stores[1] / "0123456789abcdef")
        assert list(differences(*stores)) == ["other runs: ['0123456789abcdef']"]
        shutil.rmtree(stores[0] / "0123456789abcdef")
        assert list(differences(*stores)) == ["other runs: none at all"]


class TestCommand:
    @pytest.fixture
    def asked(self, stores, tmp_path, monkeypatch):
        """Return a function that runs the command, with the two stores as what was trained."""
        sides = dict(zip((tmp_path, equivalence.ROOT), stores, strict=True))
        found = dict(zip(sides, ([{"source": OTHER}], [{"source": {**OTHER, "module": B}}]), strict=True))
        monkeypatch.setattr(equivalence, "worktree", lambda revision: nullcontext(tmp_path))
        monkeypatch.setattr(equivalence, "probes", lambda: [{}])
        monkeypatch.setattr(equivalence, "check_facts", lambda *_: None)
        monkeypatch.setattr(equivalence, "hashes", lambda tree, _: found[tree])
        monkeypatch.setattr(equivalence, "trained", lambda tree, *_: sides[tree])
        monkeypatch.setattr(equivalence, "of_both", lambda path, _old: path.read_text(encoding="utf-8"))
        monkeypatch.setattr(equivalence, "commit_of", lambda tree: "abc1234")
        for store in stores:
            edit_record(store / "0123456789abcdef", source=OTHER)
        (tmp_path / "list.yaml").write_text("# head\nequivalent: []\n")
        return lambda: equivalence.main(["abc1234", "--list", str(tmp_path / "list.yaml")])

    def test_equal_results_are_declared(self, asked, tmp_path):
        assert asked() == 0
        [item] = load_equivalences(tmp_path / "list.yaml")
        assert arrows([item]) == [("module", A, B)]
        assert item.reason.startswith("2 runs of quickstart and equivalence bit-equal since abc1234; shares")

    @pytest.mark.parametrize("what", CHANGES)
    def test_where_something_differs_nothing_is_declared(self, asked, stores, tmp_path, capsys, what):
        CHANGES[what](stores[1] / "0123456789abcdef")
        assert asked() == 1
        assert capsys.readouterr().err == f"equivalence: quickstart: 0123456789abcdef: {what} differs\n"
        assert (tmp_path / "list.yaml").read_text() == "# head\nequivalent: []\n"

    @pytest.fixture
    def repository(self, tmp_path, monkeypatch):
        """Return a function that asks git about a repository that stands in for this one."""
        root = tmp_path / "repository"
        root.mkdir()
        (root / "file.txt").write_text("first\n")
        monkeypatch.setattr(equivalence, "ROOT", root)
        identity = ("-c", "user.name=a", "-c", "user.email=a@b.invalid", "-c", "commit.gpgsign=false")

        def git(*words):
            command = ["git", "-C", str(root), *identity, *words]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout

        for words in ("init -q", "add -A", "commit -qm first"):
            git(*words.split())
        return git

    def test_an_unknown_revision_is_one_line(self, repository, capsys, tmp_path):
        assert equivalence.main(["no-such-revision", "--list", str(tmp_path / "list.yaml")]) == 1
        said = capsys.readouterr().err
        assert said.startswith("equivalence: no-such-revision cannot be checked out: ")
        assert len(said.splitlines()) == 1

    def test_the_checkout_is_taken_away_again(self, repository):
        listed = repository("worktree", "list")
        with worktree("HEAD") as path:
            assert (path / "file.txt").read_text() == "first\n"
            assert equivalence.commit_of(path) == repository("rev-parse", "--short", "HEAD").strip()
        assert (repository("worktree", "list"), path.exists()) == (listed, False)

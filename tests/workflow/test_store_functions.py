"""Functions behind `store`, `diff`, `show` and `new`, called from Python."""

from pathlib import Path

import pytest

import ema_lab
from ema_lab.errors import SpecError, StoreError, UnknownNameError
from ema_lab.workflow import events
from ema_lab.workflow.define.definitions import description, list_things
from ema_lab.workflow.define.template import new_file
from ema_lab.workflow.look.results import diff
from ema_lab.workflow.upkeep import RunChoice, check_runs, collect_garbage, merge_store, required_store

HERE = {"workers": 1, "device": "cpu"}


def test_every_run_is_checked_and_a_damaged_one_becomes_pending(trained):
    run_ids = ema_lab.run("tiny", **HERE).trained
    store, seen = required_store("runs"), list[events.Event]()
    (store.folder(run_ids[0]) / "record.json").write_text("{")
    checked = check_runs(store, checkpoints=False, quarantine=True, watch=seen.append)
    assert seen == [events.RunChecked(number, 4) for number in (1, 2, 3, 4)]
    assert (checked.num_runs, run_ids[0] in checked.quarantined) == (4, True)
    assert ema_lab.status("tiny").counts["pending"] == len(checked.quarantined)


def test_garbage_is_counted_and_removed_only_on_demand(trained):
    run_ids = ema_lab.run("tiny", **HERE).trained
    partial = Path("runs", run_ids[0], "record.json.77.partial")
    partial.write_text("half")
    store = required_store("runs")
    assert collect_garbage(store).rows() == [{"kind": "partial", "count": 1, "bytes": 4}]
    assert partial.exists()
    assert collect_garbage(store, apply=True).num_bytes == 4
    assert not partial.exists()


def test_another_store_is_merged(trained):
    ema_lab.run("tiny", store="other", **HERE)
    merge = merge_store(Path("other"), ema_lab.RunStore("runs"))
    assert (merge.num_runs, merge.ok, merge.counts) == (4, True, {"new": 4})
    assert ema_lab.status("tiny").counts == {"done": 4}
    with pytest.raises(SpecError, match="is this store itself"):
        merge_store(Path("runs"), ema_lab.RunStore("runs"))


def test_runs_are_chosen_by_the_beginning_of_an_id_or_by_cells(trained):
    run_ids = ema_lab.run("tiny", **HERE).trained
    store = required_store("runs")
    assert RunChoice((run_ids[2][:8],)).in_store(store) == [run_ids[2]]
    assert set(RunChoice(ablation="tiny", only={"seed": 0}).in_store(store)) == {run_ids[0], run_ids[2]}
    assert set(RunChoice().in_store(store)) == set(run_ids)
    with pytest.raises(SpecError, match="--only and --seeds choose cells of an --ablation"):
        RunChoice(only={"seed": 0})


def test_two_runs_differ_in_their_seed_and_their_metric(trained):
    run_ids = ema_lab.run("tiny", only={"variant": "se"}, **HERE).trained
    rows = {row["key"]: (row["first"], row["second"]) for row in diff(*run_ids).rows}
    assert rows["seed"] == (0, 1)
    assert rows["metrics.top1"] == (92.0, 93.0)
    assert "model.backbone" not in rows
    with pytest.raises(StoreError, match="the store absent does not exist"):
        diff(*run_ids, store="absent")


def test_a_new_file_is_listed_and_described(trained):
    file = new_file("ablation", "my-study")
    assert file.path == Path("ablations/my-study.yaml")
    about = {row["name"]: row["about"] for row in list_things("ablations")}
    assert about["my-study"] == "Purpose of the table, in one sentence."
    assert description("my-study") == file.path.read_text()
    with pytest.raises(UnknownNameError, match="did you mean 'my-study'"):
        description("my-stdy")
    with pytest.raises(SpecError, match="exists already"):
        new_file("ablation", "my-study")

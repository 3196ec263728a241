"""Stale results: by part, with declared equivalences, and checkpoints that no run may resume."""

import re

import pytest

from ema_lab.store.record import RunRecord
from ema_lab.store.source import Sources, source_hashes
from ema_lab.store.staleness import (
    Staleness,
    changed_parts,
    equivalent,
    load_equivalences,
)

OLD, NEW, NEWER = "0" * 16, "1" * 16, "2" * 16


def record_of(spec, **source_of_parts):
    return RunRecord(
        run_id=spec.run_id, status="done", attempt=1, source={**source_hashes(spec), **source_of_parts}
    )


class TestStaleness:
    def test_a_result_of_this_source_is_not_stale(self, specs):
        assert Staleness().parts(specs[0], record_of(specs[0])) == ()

    @pytest.mark.parametrize("part", ["module", "backbone", "data", "training"])
    def test_a_changed_part_is_named(self, specs, part):
        assert Staleness().parts(specs[0], record_of(specs[0], **{part: OLD})) == (part,)

    def test_what_is_not_done_is_not_stale(self, specs):
        failed = record_of(specs[0], module=OLD).model_copy(update={"status": "failed"})
        assert Staleness().parts(specs[0], failed) == ()
        assert Staleness().parts(specs[0], None) == ()

    def test_of_what_was_not_recorded_nothing_is_said(self, specs):
        record = record_of(specs[0]).model_copy(update={"source": {}})
        assert Staleness().parts(specs[0], record) == ()
        assert changed_parts({"unknown part": OLD}, source_hashes(specs[0])) == ()


class TestEquivalences:
    DECLARED = {("module", OLD): {NEW}, ("module", NEW): {NEWER}}

    def test_a_declared_change_is_none(self):
        assert equivalent("module", OLD, NEW, self.DECLARED)

    def test_changes_follow_each_other(self):
        assert equivalent("module", OLD, NEWER, self.DECLARED)

    def test_the_way_back_and_other_parts_are_not_declared(self):
        assert not equivalent("module", NEW, OLD, self.DECLARED)
        assert not equivalent("data", OLD, NEW, self.DECLARED)

    def test_that_the_package_declares_hold_for_records_of_the_older_source_alone(self):
        ways = {(item.part, item.old, item.new) for item in load_equivalences()}
        there = {(part, old): new for part, old, new in ways if (part, new, old) not in ways}
        newest = {key: new for key, new in there.items() if (key[0], new) not in there}
        assert newest
        for (part, old), new in newest.items():
            assert changed_parts({part: old}, {part: new}) == ()
            assert changed_parts({part: new}, {part: old}) == (part,)

    def test_a_circle_ends(self):
        circle = {("module", OLD): {NEW}, ("module", NEW): {OLD}}
        assert not equivalent("module", OLD, NEWER, circle)

    def test_one_hash_may_have_become_several(self):
        split = {("module", OLD): {NEW, NEWER}}
        assert equivalent("module", OLD, NEW, split)
        assert equivalent("module", OLD, NEWER, split)
        assert not equivalent("module", NEW, NEWER, split)

    def test_the_list_of_the_package_is_well_formed(self):
        items = load_equivalences()
        keys = [(item.part, item.old, item.new) for item in items]
        assert len(set(keys)) == len(keys)
        assert all(item.old != item.new for item in items)
        for item in items:  # no chain comes back to where it began
            assert not equivalent(item.part, item.new, item.old)

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"part": "modul"}, "part"),
            ({"old": "12"}, "old"),
            ({"new": "x" * 16}, "new"),
            ({"reason": ""}, "reason"),
        ],
    )
    def test_a_wrong_line_is_refused(self, tmp_path, change, words):
        line = {"part": "module", "old": OLD, "new": NEW, "reason": "a reason at length", **change}
        text = ", ".join(f'{key}: "{value}"' for key, value in line.items())
        (tmp_path / "list.yaml").write_text(f"equivalent: [{{{text}}}]\n")
        with pytest.raises(ValueError, match=words):
            load_equivalences(tmp_path / "list.yaml")

    def test_a_right_line_is_read(self, tmp_path):
        text = f'{{part: module, old: "{OLD}", new: "{NEW}", reason: moved a function}}'
        (tmp_path / "list.yaml").write_text(f"equivalent: [{text}]\n")
        [item] = load_equivalences(tmp_path / "list.yaml")
        assert (item.old, item.new) == (OLD, NEW)


class TestSources:
    def test_read_each_part_once(self, specs, monkeypatch):
        asked = []
        combined = Sources._combined
        monkeypatch.setattr(Sources, "_combined", lambda *key: asked.append(key) or combined(*key))
        sources = Sources()
        for spec in specs * 100:
            sources.of(spec)
        assert len(asked) == 4

    def test_keep_what_they_have_seen(self, make_spec, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        path = tmp_path / "keeps_gate.py"
        text = "class Gate:\n    def __init__(self, channels: int) -> None:\n        self.scale = 1\n"
        path.write_text(text)
        spec = make_spec("keeps_gate:Gate")
        sources = Sources()
        before = sources.of(spec)
        path.write_text(text.replace("= 1", "= 22"))
        assert sources.of(spec) == before
        assert changed_parts(before, Sources().of(spec)) == ("module",)

    def test_take_a_source_that_cannot_be_read_for_a_changed_one(self, make_spec, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        path = tmp_path / "broken_gate.py"
        path.write_text("class Gate:\n    def __init__(self, channels: int) -> None: ...\n")
        spec = make_spec("broken_gate:Gate")
        before = source_hashes(spec)
        path.write_text("class Gate:\n    def (:\n")
        assert changed_parts(before, source_hashes(spec)) == ("module",)
        path.unlink()
        assert changed_parts(before, source_hashes(spec)) == ("module",)
        assert all(re.fullmatch("[0-9a-f]{16}", value) for value in before.values())

"""What a table says of runs that are there, that are missing, and that are no fair pair."""

from dataclasses import replace

import pytest

from ema_lab.errors import SpecError
from ema_lab.experiments.staleness import Staleness
from ema_lab.reports.build import build_table
from ema_lab.reports.latex import render_latex
from ema_lab.reports.render import render_csv, render_text
from ema_lab.reports.table import Flag, Table, TableColumn, TableRow

NOT_CLEAN = "not a clean pair"
SE = ("93.00 ± 2.00 (n=3)", "+2.00 [-0.48, +4.48]", "12,345", "2.54")
SINGLE = {"none": [90.0, None, None], "se": [92.0, None, None]}
SKIP = "skip: [{when: {seed: [1, 2]}, reason: a week each}]\nbaseline: none"


def notes_with(table, words):
    return [note for note in table.notes if words in note]


def test_a_row_has_mean_deviation_seeds_and_the_paired_difference(study):
    table = study().table()
    assert table.title == "Study"
    assert table.header == ("Variant", "Top-1 (%)", "Δ Top-1 vs none", "Parameters", "MACs (M)")
    assert table.lines == (
        ("none", "91.00 ± 1.00 (n=3)", "baseline", "12,345", "2.54"),
        ("se", "93.00 ± 2.00 (n=3)", "+2.00 [-0.48, +4.48]", "12,345", "2.54"),
    )
    assert notes_with(table, "not there") == []
    assert notes_with(table, NOT_CLEAN) == []


def test_every_sign_in_a_table_is_explained(study):
    notes = "\n".join(study().table().notes)
    assert "± sample standard deviation over n seeds" in notes
    assert "paired difference to 'none'" in notes
    assert "95 % t interval" in notes
    assert "MACs: multiply-adds" in notes
    assert "Test split, last epoch (synthetic)." in notes


def test_what_is_not_shown_is_not_explained(study):
    notes = "\n".join(study().table(columns=["parameters"]).notes)
    assert not any(words in notes for words in ("±", "Δ", "MACs"))


def test_digits_and_metrics_are_chosen_by_the_report(study):
    table = study().table(columns=["loss", "delta"], metric="loss", digits=4)
    assert table.header == ("Variant", "Loss (nats)", "Δ Loss vs none")
    assert table.lines[1] == ("se", "0.2500 ± 0.0000 (n=3)", "+0.0000 [+0.0000, +0.0000]")


def test_a_metric_that_no_run_has_is_a_hole(study):
    assert study().table(columns=["top5"]).lines == (("none", None), ("se", None))


class TestHoles:
    def test_a_row_without_runs_is_a_hole_and_never_a_number(self, study):
        table = study({"none": [90.0, 91.0, 92.0], "se": [None, None, None]}).table()
        assert table.lines[1] == ("se", None, None, None, None)
        assert "n/a" in render_text(table)
        assert notes_with(table, "3 of 6 runs are not there: failed or not run yet")

    def test_missing_seeds_are_named_beside_the_mean_and_the_difference(self, study):
        table = study({"none": [90.0, 91.0, 92.0], "se": [91.0, None, 95.0]}).table()
        assert table.lines[1][1] == "93.00 ± 2.83 (n=2 of 3)"
        assert table.lines[1][2] == "+2.00 [-10.71, +14.71] (n=2 of 3)"  # t(0.975, 1) = 12.7062
        assert notes_with(table, "1 of 6 runs are not there")

    def test_a_difference_counts_common_seeds_only(self, study):
        table = study({"none": [90.0, None, None], "se": [None, 93.0, 96.0]}).table()
        assert table.lines[0][1] == "90.00 (n=1 of 3)"
        assert table.lines[1][1:3] == ("94.50 ± 2.12 (n=2 of 3)", None)

    def test_one_common_seed_has_no_interval(self, study):
        table = study({"none": [90.0, None, None], "se": [91.5, 93.0, 96.0]}).table()
        assert table.lines[1][2] == "+1.50 (n=1 of 3)"

    def test_one_seed_has_no_deviation(self, study):
        table = study(SINGLE, more=SKIP).table()
        assert table.lines[0][1] == "90.00 (n=1)"
        assert table.lines[1][1:3] == ("92.00 (n=1)", "+2.00 (n=1)")
        assert "±" not in "".join(cell or "" for row in table.lines for cell in row)

    def test_cells_that_the_ablation_leaves_out_are_told(self, study):
        table = study(SINGLE, more=SKIP).table()
        assert notes_with(table, "4 cells are left out: a week each.")
        assert notes_with(table, "not there") == []

    def test_a_run_without_a_cost_leaves_a_hole(self, study):
        table = study(cost=lambda spec: {"parameters": 7}).table()
        assert table.lines[0][3:] == ("7", None)


class TestPairs:
    @pytest.mark.parametrize(
        "difference",
        [{"device": "cuda: x"}, {"precision": "bf16"}, {"num_threads": 2}, {"versions": {"torch": "3"}}],
    )
    def test_a_pair_that_is_not_clean_is_flagged(self, study, difference):
        def environment(spec):
            return difference if spec.model.attention.name == "se" and spec.seed == 1 else {}

        table = study(environment=environment).table()
        assert table.lines[0][2] == "baseline"
        assert table.lines[1][2] == "+2.00 [-0.48, +4.48] †"
        assert len(notes_with(table, NOT_CLEAN)) == 1

    def test_what_changes_no_result_is_not_flagged(self, study):
        table = study(environment=lambda spec: {"commit": spec.run_id, "tf32": spec.seed}).table()
        assert notes_with(table, NOT_CLEAN) == []

    def test_without_a_difference_there_is_nothing_to_flag(self, study):
        table = study(environment=lambda spec: {"device": spec.run_id}).table(columns=["top1"])
        assert notes_with(table, NOT_CLEAN) == []


@pytest.mark.parametrize(
    ("protocol", "words"),
    [
        ("last", "Test split, last epoch (synthetic)."),
        ("best-val", "Test split, epoch chosen on the validation split (synthetic)."),
        ("best-test", "BEST TEST EPOCH: test data chose the epoch, so the numbers are too high (synthetic)."),
    ],
)
def test_the_protocol_is_labelled(study, protocol, words):
    assert study(protocol=protocol).table().notes[-1] == words


class TestReportKeys:
    def test_names_rename_rows_in_print_but_not_in_data(self, study):
        found = study()
        names = {"se": "SE (r = 4)"}
        assert [row[0] for row in found.table(names=names).lines] == ["none", "SE (r = 4)"]
        assert [row["variant"] for row in found.records(names=names)] == ["none", "se"]

    def test_a_name_for_no_row_is_refused(self, study):
        with pytest.raises(SpecError, match="no row is named 'sea'; did you mean 'se'"):
            study().table(names={"sea": "SE"})

    def test_a_difference_to_no_baseline_is_refused(self, study):
        found = study(more="")
        with pytest.raises(SpecError, match="needs a baseline"):
            found.table()
        assert found.table(columns=["top1"]).lines[1] == ("se", "93.00 ± 2.00 (n=3)")

    def test_the_title_is_the_ablation_s_name_by_default(self, study):
        assert study().table(title="").title == "study"


def test_records_are_flat_and_unrounded_with_every_run_id(study):
    found = study({"none": [90.0, 91.0, 92.5], "se": [91.0, None, 95.0]})
    none, se = found.records()
    run_ids = {row.name: row.run_ids for row in found.rows}
    assert none == {
        "variant": "none",
        "seeds": 3,
        "n": 3,
        "top1": pytest.approx(273.5 / 3, rel=1e-15),
        "top1_std": pytest.approx(1.2583057392117916, rel=1e-12),
        "delta": None,
        "delta_low": None,
        "delta_high": None,
        "delta_n": 0,
        "parameters": 12_345,
        "macs": 2_540_160,
        "stale": None,
        "run_ids": " ".join(run_ids["none"]),
    }
    assert (se["n"], se["delta"], se["delta_n"]) == (2, 1.75, 2)
    assert len(se["run_ids"].split()) == 3


def test_a_table_with_a_row_of_another_length_cannot_be_made():
    with pytest.raises(ValueError, match="row 0 has 0 cells, not 1"):
        Table("t", "Title", "Variant", (TableColumn("a", "A", "text"),), (TableRow("x", "x", ()),))


class TestStale:
    @pytest.fixture
    def stale_study(self, study, monkeypatch):
        """Return a function that builds a study in which a part's source has changed since for some runs."""

        def build(is_stale, **keys):
            monkeypatch.setattr(
                Staleness,
                "parts",
                lambda self, spec, record: ("module", "data") if record and is_stale(spec) else (),
            )
            return study(**keys)

        return build

    def test_every_number_of_a_stale_run_is_marked_and_the_parts_are_named(self, stale_study):
        table = stale_study(lambda spec: spec.model.attention.name == "se" and spec.seed == 1).table()
        assert "‡" not in "".join(table.lines[0])
        assert table.lines[1] == ("se", *(f"{cell} ‡" for cell in SE))
        assert notes_with(table, "‡") == [
            "‡: 1 run is stale: the source of module, data has changed since; "
            "ema-lab run study --refresh trains again."
        ]

    def test_a_stale_baseline_marks_the_differences_to_it(self, stale_study):
        table = stale_study(lambda spec: spec.model.attention.name == "none").table()
        assert table.lines[0][1:3] == ("91.00 ± 1.00 (n=3) ‡", "baseline")
        assert table.lines[1][1:3] == ("93.00 ± 2.00 (n=3)", "+2.00 [-0.48, +4.48] ‡")

    def test_a_hole_is_not_marked(self, stale_study):
        table = stale_study(lambda spec: True, scores={"none": [90.0, 91.0, 92.0], "se": [None] * 3}).table()
        assert table.lines[1] == ("se", None, None, None, None)

    def test_data_name_the_parts(self, stale_study):
        found = stale_study(lambda spec: spec.model.attention.name == "se" and spec.seed == 1).records()
        assert [row["stale"] for row in found] == [None, "module data"]
        assert "module data" in render_csv(found)

    def test_latex_has_its_sign(self, stale_study):
        text = render_latex(stale_study(lambda spec: True).table())
        assert r"$\ddagger$" in text
        assert "‡" not in text


def test_a_run_that_a_search_cut_short_is_told_and_enters_no_number(study):
    found = study({"none": [90.0, 91.0, 92.0], "se": [91.0, None, 95.0]})
    none, se = found.rows
    cut = tuple(replace(item, pruned=item.record is None) for item in se.cells)
    table = build_table(found.report(), found.ablation, [none, replace(se, cells=cut)])
    assert table.lines[1][1] == "93.00 ± 2.83 (n=2 of 3) ¶"
    assert Flag.PRUNED in table.rows[1].cells[0].flags
    assert notes_with(table, "¶: a search has cut runs of this row short: they are in no number.")

"""Tables of finished runs, missing runs, and unfair pairs."""

from dataclasses import replace

import pytest
from made_up import OUTCOME

from ema_lab.errors import SpecError
from ema_lab.execution.claim import Claim, Task
from ema_lab.execution.executor import execute
from ema_lab.measured.selection import environment_differences, select_rows
from ema_lab.reports.report import build_table
from ema_lab.statistics import paired_equivalence, paired_test
from ema_lab.statistics.power import detectable_difference, std_limits
from ema_lab.store.job import RunStopped
from ema_lab.store.staleness import Staleness
from ema_lab.store.store import MAX_ATTEMPTS, RunStore
from ema_lab.tables.cell import Mark
from ema_lab.tables.latex import render_latex
from ema_lab.tables.render import flat_records, render_csv, render_text, table_data
from ema_lab.tables.table import Table, TableColumn, TableRow


def lowered(measured):
    """Return a cell whose run has a top-1 that is 10 points lower, in part by its seed."""
    top1 = measured.record.metrics["top1"] - 10 - 0.3 * measured.cell.seed
    record = measured.record.model_copy(update={"metrics": {**measured.record.metrics, "top1": top1}})
    return replace(measured, record=record)


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


def test_a_failed_run_is_a_hole_whatever_its_record_holds(study, tmp_path):
    whole, store = study(), RunStore(tmp_path / "runs")
    (cell,) = (cell for cell in whole.ablation.cells if (cell.variant, cell.seed) == ("se", 1))
    store.write(store.record(cell.run_id).model_copy(update={"status": "failed"}))
    table = whole._replace(rows=select_rows(whole.ablation, store)).table(columns=["top1", "delta"])
    assert table.lines[1][1] == "93.00 ± 2.83 (n=2 of 3)"
    assert table.rows[1].cells[0].missing_run_ids == (cell.run_id,)


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
    assert table.lines[1] == ("se", "0.2500 ± 0.0000 (n=3)", "0.0000 (n=3, all equal)")


def test_a_metric_that_no_run_has_is_a_hole(study):
    assert study().table(columns=["top5"]).lines == (("none", None), ("se", None))


class TestHoles:
    def test_a_row_without_runs_is_a_hole_and_never_a_number(self, study):
        table = study({"none": [90.0, 91.0, 92.0], "se": [None, None, None]}).table()
        assert table.lines[1] == ("se", None, None, None, None)
        assert "n/a" in render_text(table)
        assert notes_with(table, "3 of 6 runs are not there: failed or not run yet")

    def test_a_table_without_runs_explains_no_spread(self, study):
        table = study({"none": [None] * 3, "se": [None] * 3}).table()
        assert not notes_with(table, "over n seeds")
        assert not notes_with(table, "Single seeds")

    def test_missing_seeds_are_named_beside_the_mean_and_the_difference(self, study):
        table = study({"none": [90.0, 91.0, 92.0], "se": [91.0, None, 95.0]}).table()
        assert table.lines[1][1] == "93.00 ± 2.83 (n=2 of 3)"
        assert table.lines[1][2] == "+2.00 [-10.71, +14.71] (n=2 of 3)"  # t(0.975, 1) = 12.7062
        assert notes_with(table, "1 of 6 runs is not there")

    def test_a_difference_counts_common_seeds_only(self, study):
        table = study({"none": [90.0, None, None], "se": [None, 93.0, 96.0]}).table()
        assert table.lines[0][1] == "90.00 (n=1 of 3)"
        assert table.lines[1][1:3] == ("94.50 ± 2.12 (n=2 of 3)", None)

    def test_ranks_compare_rows_seed_by_seed(self, study):
        table = study({"none": [80.0, 90.0, 91.0], "se": [None, 90.01, 91.0105]}).table()
        assert table.rows[1].cells[0].mark is Mark.BEST  # over the last two seeds, which both rows have

    def test_one_common_seed_has_no_interval(self, study):
        table = study({"none": [90.0, None, None], "se": [91.5, 93.0, 96.0]}).table()
        assert table.lines[1][2] == "+1.50 (n=1 of 3)"

    def test_one_seed_has_no_deviation(self, study):
        table = study(SINGLE, more=SKIP).table()
        assert table.lines[0][1] == "90.00 (n=1)"
        assert table.lines[1][1:3] == ("92.00 (n=1)", "+2.00 (n=1)")
        assert table.notes[0] == "Single seeds: what another seed would give is not known."
        assert not notes_with(table, "interval")
        assert notes_with(table, "No row is marked as the best in Top-1: single seeds allow no test.")
        assert "±" not in "".join(cell or "" for row in table.lines for cell in row)

    def test_cells_that_the_ablation_leaves_out_are_in_the_notes(self, study):
        table = study(SINGLE, more=SKIP).table()
        assert notes_with(table, "4 cells are left out: a week each.")
        assert notes_with(table, "not there") == []

    def test_notes_do_not_mention_left_out_cells_of_hidden_rows(self, study):
        assert notes_with(study(SINGLE, more=SKIP).table(rows=["se"]), "2 cells are left out: a week each.")

    def test_a_missing_run_of_the_baseline_is_named_where_it_is_what_is_missing(self, study):
        found = study({"none": [90.0, None, 92.0], "se": [91.0, 93.0, 96.0]})
        base = found.rows[0]
        delta = found.table(rows=["se"]).rows[0].cells[1]
        assert delta.missing_run_ids == (base.run_ids[1],)
        assert notes_with(
            found.table(rows=["se"]), "1 run of the baseline, which is no row here, is not there."
        )
        assert not notes_with(found.table(), "of the baseline, which is no row here")
        assert found.table().rows[1].cells[0].missing_run_ids == ()

    def test_a_run_without_a_cost_leaves_a_hole(self, study):
        table = study(cost=lambda spec: {"parameters": 7}).table()
        assert table.lines[0][3:] == ("7", None)


class TestPairs:
    @pytest.mark.parametrize(
        "difference",
        [
            {"device": "cuda: x"},
            {"precision": "bf16"},
            {"tf32": True},
            {"num_threads": 2},
            {"versions": {"torch": "3"}},
            {"instruction_set": "AVX2"},
            {"instruction_set": "AVX512, ONEDNN_MAX_CPU_ISA=AVX2"},
            {"processor": "another"},
            {"matmul_precision": "medium"},
            {"deterministic": "no"},
            {"cudnn_benchmark": True},
            {"attention_kernel": "exact"},
        ],
    )
    def test_a_pair_that_is_not_clean_is_flagged(self, study, difference):
        known = {"instruction_set": "AVX512", "processor": "one", "tf32": False}
        known |= {"matmul_precision": "highest", "deterministic": "always", "cudnn_benchmark": False}
        known |= {"attention_kernel": "formula"}

        def environment(spec):
            return known | difference if spec.model.attention.name == "se" and spec.seed == 1 else known

        table = study(environment=environment).table()
        assert table.lines[0][2] == "baseline"
        assert table.lines[1][2] == "+2.00 [-0.48, +4.48] †"
        assert len(notes_with(table, NOT_CLEAN)) == 1

    @pytest.mark.parametrize("key", ["instruction_set", "processor", "tf32"])
    def test_what_an_older_record_does_not_say_is_unknown_and_not_different(self, study, key):
        silent = study(environment=lambda spec: {key: "x"} if spec.model.attention.name == "se" else {})
        assert notes_with(silent.table(), NOT_CLEAN) == []

    def test_an_older_record_hides_no_difference_of_the_others(self):
        assert environment_differences([{"tf32": True}, {}, {"tf32": False}, {"tf32": None}]) == ["tf32"]
        assert environment_differences([{"instruction_set": "AVX2"}, {}, {"instruction_set": "AVX2"}]) == []

    def test_a_mark_that_rests_on_pairs_that_are_not_clean_is_flagged(self, study):
        scores = {"none": [90.0, 91.0, 92.0], "se": [95.1, 96.0, 96.9]}
        on_gpu = study(scores, environment=lambda spec: {"device": spec.model.attention.name})
        table = on_gpu.table(columns=["top1"])
        assert [cell.plain_text for row in table.rows for cell in row.cells] == [
            "91.00 ± 1.00 (n=3)",
            "96.00 ± 0.90 (n=3) †",
        ]
        assert table.rows[1].cells[0].mark is Mark.BEST
        assert notes_with(table, NOT_CLEAN)

    def test_a_row_without_a_mark_is_not_flagged(self, study):
        found = study(
            {"none": [80.0, 81.1, 82.0], "se": [95.1, 96.0, 96.9]},
            environment=lambda spec: {"device": spec.model.attention.name},
        )
        none, se = found.rows
        table = build_table(
            found.report(columns=["top1"]), found.ablation, [none, se, replace(se, name="twin")]
        )
        assert [row.cells[0].plain_text for row in table.rows[1:]] == ["96.00 ± 0.90 (n=3)"] * 2

    def test_what_changes_no_result_is_not_flagged(self, study):
        table = study(environment=lambda spec: {"commit": spec.run_id, "processor": spec.seed}).table()
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


def test_a_look_at_test_data_is_said(study):
    found = study(watch="test")
    looked = "Test data was looked at after every epoch (recipe.watch: test); it chose nothing."
    assert looked in found.table().notes
    assert looked not in study().table().notes


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
        "top1_mark": None,
        "delta": None,
        "delta_low": None,
        "delta_high": None,
        "delta_n": 0,
        "delta_mark": None,
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
        """Return a function that builds a study in which some runs' source has changed."""

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

    def test_one_stale_run_of_the_baseline_is_enough(self, stale_study):
        table = stale_study(lambda spec: spec.model.attention.name == "none" and spec.seed == 1).table()
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


def test_a_pruned_run_is_noted_and_enters_no_number(study, tmp_path):
    def train(spec, job):
        raise RunStopped("pruned after epoch 1")

    found = study({"none": [90.0, 91.0, 92.0], "se": [91.0, None, 95.0]})
    store = RunStore(tmp_path / "runs")
    claim = Claim(train, store, MAX_ATTEMPTS, "cpu")
    assert [claim(Task(spec)) for spec in found.ablation.runs()].count("stopped") == 1
    found = found._replace(rows=select_rows(found.ablation, store))
    assert found.table().lines[1][1] == "93.00 ± 2.83 (n=2 of 3) ¶"
    assert notes_with(found.table(), "¶: a search has cut runs of this row short: they are in no number.")
    execute(
        found.ablation.runs(), train=lambda spec, job: replace(OUTCOME, metrics={"top1": 95.0}), store=store
    )
    table = found._replace(rows=select_rows(found.ablation, store)).table()
    assert table.lines[1][1] == "93.67 ± 2.31 (n=3)"


class TestEqualValues:
    """Seeds with equal values on a small test set get no interval of width zero."""

    SCORES = {"none": [90.0, 91.0, 92.0], "se": [91.0, 92.0, 93.0]}

    def test_equal_differences_have_no_interval_and_no_p_value(self, study):
        row = study(self.SCORES).table(columns=["delta", "p", "effect", "detectable"]).lines[1]
        assert row[1] == "+1.00 (n=3, all equal)"
        assert set(row[2:]) == {"untested (all differences are equal)"}

    def test_data_hold_no_bounds(self, study):
        (_, record) = study(self.SCORES).records(columns=["delta"])
        assert (record["delta"], record["delta_low"], record["delta_high"]) == (1.0, None, None)

    @pytest.mark.parametrize(
        ("spread", "text"), [("std", "91.00 ± 0.00 (n=3)"), ("interval", "91.00 (n=3, all equal)")]
    )
    def test_equal_seeds_have_a_deviation_of_zero_but_no_interval(self, study, spread, text):
        table = study({"none": [91.0] * 3, "se": [91.0, 93.0, 95.0]}).table(columns=["top1"], spread=spread)
        assert table.lines[0][1] == text


class TestCosts:
    def test_runs_that_differ_in_a_cost_show_their_range_and_no_value(self, study):
        found = study(cost=lambda spec: {"macs": 2_540_160 * (1 + spec.seed), "parameters": 7})
        table = found.table(columns=["parameters", "macs", "delta_macs"])
        assert table.lines[1] == ("se", "7", "2.54 to 7.62 (runs differ)", "0.00")
        cell = table.rows[1].cells[1]
        assert (cell.value, cell.low, cell.high, len(cell.run_ids)) == (None, 2_540_160, 7_620_480, 3)
        assert found.rows[1].cost("macs") is None


class TestManyRows:
    def test_what_is_detectable_counts_the_comparisons_of_the_table(self, study):
        found = study()
        alone = found.table(columns=["detectable"])
        assert notes_with(alone, "power at 5 %, given")
        more = [replace(found.rows[1], name=name) for name in ("a", "b", "c")]
        table = build_table(found.report(columns=["detectable"]), found.ablation, [found.rows[0], *more])
        expected = detectable_difference(3, 1.0, significance=0.05 / 3)  # differences 1, 2, 3
        cell = table.rows[1].cells[0]
        assert cell.value == pytest.approx(expected)
        limits = tuple(expected * limit for limit in std_limits(1.0, 2))
        assert (cell.low, cell.high) == pytest.approx(limits)
        assert cell.text == f"{expected:.2f} [{limits[0]:.2f}, {limits[1]:.2f}]"
        assert notes_with(table, "power at 5 % / 3 (Holm's first step), given")

    def test_the_best_is_better_than_every_row_that_has_runs(self, study):
        found = study({"none": [90.0, 91.0, 92.0], "se": [95.1, 96.0, 96.9]})
        assert notes_with(found.table(), "Bold: better than every other row (paired")
        none, se = found.rows
        hole = replace(none, name="gone", cells=tuple(replace(one, record=None) for one in none.cells))
        table = build_table(found.report(), found.ablation, [none, se, hole])
        assert table.rows[1].cells[0].mark is Mark.BEST
        assert notes_with(table, "Bold: better than every other row that has runs (paired")

    def test_the_caption_names_the_rows_that_no_test_has_seen(self, study):
        found = study({"none": [90.0, 91.0, 92.0], "se": [90.1, 91.0, 91.8]})
        none, se = found.rows
        single = replace(none, name="one", cells=none.cells[:1])
        table = build_table(found.report(), found.ablation, [none, se, single])
        assert [row.cells[0].mark for row in table.rows] == [None, None, Mark.UNTESTED]
        assert table.rows[2].cells[0].plain_text.endswith(" ?")
        assert notes_with(table, "?: in no test, so neither better nor worse: none (a test needs two seeds")
        assert notes_with(table, "Rows have different seeds: compare them by differences")

    def test_a_single_seed_is_named_and_does_not_hide_the_best(self, study):
        found = study({"none": [90.0, 91.0, 92.0], "se": [95.1, 96.0, 96.9]})
        none, se = found.rows
        single = replace(se, name="one", cells=se.cells[:1])
        table = build_table(found.report(), found.ablation, [none, se, single])
        assert [row.cells[0].mark for row in table.rows] == [None, Mark.BEST, Mark.UNTESTED]
        assert notes_with(table, "Bold: better than every other tested row (paired")
        assert notes_with(table, "?: in no test, so neither better nor worse: se")
        assert not notes_with(table, "No row is marked")

    def test_rows_with_different_seeds_are_ordered_over_common_ones(self, study):
        found = study({"none": [90.0, 91.0, 70.0], "se": [89.0, 90.2, None]})
        assert [row.key for row in found.table(order="metric").rows] == ["none", "se"]
        notes = found.table(order="metric").notes
        assert "Order: by means over the 2 seeds that all rows have." in notes
        none, se = found.rows
        rows = [replace(none, cells=none.cells[2:]), replace(se, cells=se.cells[:2])]
        apart = build_table(found.report(order="metric"), found.ablation, rows)
        assert [row.key for row in apart.rows] == ["se", "none"]
        assert "Order: by means over different seeds." in apart.notes

    def test_a_best_row_that_is_not_shown_is_named(self, study):
        found = study({"none": [90.0, 91.0, 92.0], "se": [95.1, 96.0, 96.9]})
        none, se = found.rows
        worse = replace(none, name="worse", cells=tuple(lowered(one) for one in none.cells))
        table = build_table(found.report(rows=["none", "worse"]), found.ablation, [none, worse, se])
        assert table.rows[0].cells[0].mark is Mark.SECOND
        assert notes_with(table, "The best row in Top-1 is not shown: se (paired t tests")
        assert notes_with(table, "Underlined: better than every other row (shown or not) except the best")
        assert not notes_with(table, "No row is marked")


class TestEquivalence:
    """≈ is for shown equivalence only."""

    NEAR = {"none": [90.0, 91.0, 92.0], "se": [90.1, 91.0, 92.05]}

    def test_no_difference_found_is_no_equivalence(self, study):
        table = study({"none": [90.0, 91.0, 92.0], "se": [90.9, 90.0, 92.5]}).table(
            columns=["top1", "delta", "p", "equivalence"], margin=1.0
        )
        assert table.rows[1].cells[2].p > 0.05
        assert "≈" not in render_text(table)
        assert notes_with(
            table, "Equivalence p (Top-1): two one-sided paired t tests that the true difference"
        )

    def test_what_two_one_sided_tests_show_is_marked(self, study):
        table = study(self.NEAR).table(columns=["top1", "delta", "equivalence"], margin=0.5)
        top1, delta, p = table.rows[1].cells
        assert (top1.mark, delta.mark, p.mark) == (None, Mark.EQUIVALENT, Mark.EQUIVALENT)
        assert p.p == pytest.approx(paired_equivalence([0.1, 0.0, 0.05], 0.5).p)
        assert delta.plain_text.endswith(" ≈")
        assert notes_with(table, "≈: equivalent to 'none' within ±0.5 points (two one-sided paired t tests")
        assert "≈" not in render_text(study(self.NEAR).table())

    @pytest.mark.parametrize(
        ("keys", "words"),
        [
            ({"columns": ["top1", "equivalence"]}, "needs `margin`, the smallest relevant difference"),
            ({"columns": ["top1"], "margin": 1.0}, "changes nothing without a column `delta`"),
            ({"margin": 0.0}, "must be above 0"),
            (
                {"columns": ["equivalence"], "margin": 1.0, "seeds": "decided"},
                "needs a fixed number of seeds",
            ),
        ],
    )
    def test_a_margin_and_its_column_need_each_other(self, study, keys, words):
        with pytest.raises(ValueError, match=words):
            study().report(**keys)


def test_data_hold_every_fact_of_a_test(study):
    found = study({"none": [90.0, 91.0, 92.0], "se": [95.1, 96.0, 96.9]})
    none, se = found.rows
    cells = tuple(lowered(one) for one in none.cells)
    third = replace(none, name="third", is_baseline=False, cells=cells)
    report = found.report(columns=["top1", "delta", "p", "wilcoxon"], margin=9.0)
    table = build_table(report, found.ablation, [none, se, third])
    record = flat_records(table)[1]
    p = paired_test([5.1, 5.0, 4.9]).p
    assert record["top1_mark"] == "best"
    assert record["delta_mark"] == "equivalent"
    assert (record["p_raw"], record["p"]) == (pytest.approx(p), pytest.approx(2 * p))
    assert (record["p_family"], record["p_test"], record["p_df"]) == (2, "paired t", 2)
    assert (record["wilcoxon"], record["wilcoxon_test"]) == (None, None)
    top1, _, cell, _ = table_data(table)["rows"][1]["cells"]
    assert (top1["mark"], top1["test"], top1["family"]) == ("best", "paired t", 3)
    assert (cell["p_raw"], cell["p"]) == (pytest.approx(p), pytest.approx(2 * p))
    assert (cell["test"], cell["family"], cell["degrees_of_freedom"]) == ("paired t", 2, 2)


@pytest.mark.parametrize("key", ["columns", "rows"])
def test_what_stands_twice_is_refused(study, key):
    with pytest.raises(ValueError, match="'top1' is listed twice"):
        study().report(**{key: ["top1", "top1"]})

"""Tables of every kind from synthetic results, and the report keys that shape them."""

import json
import re

import numpy as np
import pytest
from made_up import BASE, fill, report
from pydantic import ValidationError
from scipy.stats import t

from ema_lab.ablation.ablation import load_ablation
from ema_lab.errors import SpecError
from ema_lab.reports.files import report_files
from ema_lab.reports.report import build_report
from ema_lab.specs.report import ReportSpec, load_report
from ema_lab.statistics import holm, paired_test
from ema_lab.statistics.omnibus import omnibus_tests
from ema_lab.store.cost_cache import CostCache
from ema_lab.store.store import RunStore
from ema_lab.tables.cell import Flag, Mark
from ema_lab.tables.render import flat_records, render_markdown, render_text, table_data

NOISE = [0.00, 0.07, -0.05, 0.11, 0.02, -0.08, 0.04]
GRID = """\
seeds: [0, 1, 2, 3, 4]
baseline: none
variants:
  none: {model.attention: none}
  ema:
    model.attention: ema
    axes: {model.attention.groups: [4, 8], model.placement.after: [block_end, stage_end]}
"""
FACTORS = ["model.attention.groups", "model.placement.after"]
PARTS = """\
seeds: [0, 1, 2, 3, 4, 5]
without:
  no attention: {model.attention: none}
  no local branch: {model.attention.local_branch: false}
"""
PARTS_BASE = BASE.replace("placement:", "attention: ema, placement:")
TWO = """\
seeds: [0, 1, 2, 3]
baseline: none
variants: {none: {model.attention: none}, se: {model.attention: se}}
"""


def grid_score(cell):
    values = dict(cell.own_axes)
    wide, late = values.get(FACTORS[0]) == 8, values.get(FACTORS[1]) == "stage_end"
    noise = NOISE[cell.seed * (1 + wide + 2 * late) % 7]
    return 80 + 1.0 * wide + 2.0 * late + cell.seed + noise


def three_levels_score(cell):
    """Return the score of a grid with a third number of groups, 16, that differs a little."""
    values = dict(cell.own_axes)
    is_third, late = values.get(FACTORS[0]) == 16, values.get(FACTORS[1]) == "stage_end"
    return grid_score(cell) + is_third * (0.3 + NOISE[(3 * cell.seed + 1 + late) % 7])


def texts(table):
    return {row.key: [cell.plain_text for cell in row.cells] for row in table.rows}


class TestGrid:
    def test_a_place_for_each_pair_of_levels_and_the_effects_of_both(self, tmp_path):
        store = fill(tmp_path, "g", GRID, grid_score)
        keys = {"kind": "grid", "ablation": "g", "factors": FACTORS, "only": {"variant": "ema"}}
        grid, effects, _ = report(tmp_path, store, **keys).tables
        assert grid.header == ("groups \\ after", "block_end", "stage_end")
        assert [row.name for row in grid.rows] == ["4", "8"]
        assert grid.rows[1].cells[1].value == pytest.approx(85 + (0 + 0.02 - 0.05 - 0.08 + 0.07) / 5)
        assert [row.key for row in effects.rows] == [
            "groups 8 vs 4",
            "after stage_end vs block_end",
            "groups 8 vs 4 × after stage_end vs block_end",
        ]
        means = [row.cells[0].value for row in effects.rows]
        assert means == pytest.approx([1.0, 2.0, 0.0], abs=0.1)
        assert effects.rows[1].cells[1].p < 0.05 < effects.rows[2].cells[1].p
        assert len(effects.rows[0].cells[0].run_ids) == 20
        flat = flat_records(effects)[0]
        assert (flat["seeds"], flat["n"], len(flat["run_ids"].split())) == (5, 5, 20)

    def test_an_effect_knows_the_runs_and_seeds_that_it_rests_on(self, tmp_path):
        text = GRID.replace("[4, 8]", "[4, 8, 16]").replace("[0, 1, 2, 3, 4]", "[0, 1, 2]")

        def score(cell):
            return None if cell.seed == 2 and dict(cell.own_axes).get(FACTORS[0]) == 16 else grid_score(cell)

        store = fill(tmp_path, "g", text, score)
        names = {"4": "four", FACTORS[0]: "G"}
        keys = {"kind": "grid", "ablation": "g", "factors": FACTORS, "only": {"variant": "ema"}}
        _, effects, *_ = report(tmp_path, store, names=names, **keys).tables
        by_name = {row.name: row for row in effects.rows}
        groups = {
            cell.run_id: dict(cell.own_axes)[FACTORS[0]]
            for cell in load_ablation(tmp_path / "g.yaml").cells[3:]
        }
        eight = by_name["G 8 vs four"].cells[0]
        assert {groups[run_id] for run_id in eight.run_ids} == {4, 8}
        assert len(eight.run_ids) == 2 * 2 * 2  # groups, placements, common seeds
        assert (eight.count, eight.n, eight.expected, eight.missing_run_ids) == ("n=2 of 3", 2, 3, ())
        assert len(by_name["G 16 vs four"].cells[0].missing_run_ids) == 2
        assert Flag.MISSING in eight.flags

    def test_p_values_of_effects_are_corrected_over_all_effects(self, tmp_path):
        """Main effects are one family, interactions another."""
        store = fill(tmp_path, "g", GRID.replace("[4, 8]", "[4, 8, 16]"), three_levels_score)
        keys = {"kind": "grid", "ablation": "g", "factors": FACTORS, "only": {"variant": "ema"}}
        _, effects, *_ = report(tmp_path, store, **keys).tables
        alone = [paired_test(row.cells[0].values).p for row in effects.rows]
        found = [row.cells[1].p for row in effects.rows]
        assert found == pytest.approx([*holm(alone[:3]), *holm(alone[3:])])
        assert min(found) > 2 * min(alone)
        assert [row.cells[1].family for row in effects.rows] == [3, 3, 3, 2, 2]
        words = "over 3 main effects and, apart from them, 2 interactions."
        assert words in " ".join(effects.notes)

    def test_each_factor_has_one_test_of_all_its_levels(self, tmp_path):
        store = fill(tmp_path, "g", GRID.replace("[4, 8]", "[4, 8, 16]"), three_levels_score)
        keys = {"kind": "grid", "ablation": "g", "factors": FACTORS, "only": {"variant": "ema"}}
        grid, _, factors = report(tmp_path, store, names={FACTORS[0]: "G"}, **keys).tables
        assert [(row.key, row.name) for row in factors.rows] == [
            ("groups", "G"),
            ("after", "after"),
            ("groups × after", "G × after"),
        ]
        values = {
            (row.key, level): dict(enumerate(cell.values))
            for row in grid.rows
            for level, cell in zip(("block_end", "stage_end"), row.cells, strict=True)
        }
        tests = omnibus_tests(values, FACTORS)
        assert [row.cells[0].value for row in factors.rows] == pytest.approx([each.f for each in tests])
        raw = [each.p for each in tests]
        assert [row.cells[2].p_raw for row in factors.rows] == pytest.approx(raw)
        assert [row.cells[2].p for row in factors.rows] == pytest.approx([*holm(raw[:2]), raw[2]])
        assert [row.cells[2].family for row in factors.rows] == [2, 2, 1]
        assert len(factors.rows[0].cells[0].run_ids) == 30
        flat = flat_records(factors)[0]
        assert (flat["variant"], flat["f"], flat["p_raw"]) == ("groups", tests[0].f, pytest.approx(raw[0]))

    @pytest.mark.parametrize(
        "shown", [{"rows": ["4", "8"]}, {"only": {"variant": "ema", FACTORS[0]: [4, 8]}}]
    )
    def test_levels_that_are_not_shown_are_in_the_test_of_their_factor(self, tmp_path, shown):
        store = fill(tmp_path, "g", GRID.replace("[4, 8]", "[4, 8, 16]"), grid_score)
        keys = {"kind": "grid", "ablation": "g", "factors": FACTORS, "only": {"variant": "ema"}}
        *_, whole = report(tmp_path, store, **keys).tables
        *_, part = report(tmp_path, store, **{**keys, **shown}).tables
        assert [row.cells for row in part.rows] == [row.cells for row in whole.rows]

    def test_a_hidden_hole_leaves_the_effects_and_says_why_no_factor_is_tested(self, tmp_path):
        def score(cell):
            return None if dict(cell.own_axes).get(FACTORS[0]) == 16 else grid_score(cell)

        store = fill(tmp_path, "g", GRID.replace("[4, 8]", "[4, 8, 16]"), score)
        keys = {"kind": "grid", "ablation": "g", "factors": FACTORS, "only": {"variant": "ema"}}
        _, effects = report(tmp_path, store, rows=["4", "8"], **keys).tables
        assert "No factor is tested as a whole: effects need a seed" in " ".join(effects.notes)
        assert len(effects.rows) == 3

    def test_a_factor_with_one_level_is_not_tested(self, tmp_path):
        store = fill(tmp_path, "g", GRID.replace("[block_end, stage_end]", "[block_end]"), grid_score)
        keys = {"kind": "grid", "ablation": "g", "factors": FACTORS, "only": {"variant": "ema"}}
        _, effects, factors = report(tmp_path, store, **keys).tables
        assert [row.key for row in effects.rows] == ["groups 8 vs 4"]
        assert [row.key for row in factors.rows] == ["groups"]

    def test_an_effect_on_runs_of_several_machines_is_flagged(self, tmp_path):
        def on_another_machine(cell):
            return {"device": "cpu: other"} if dict(cell.own_axes).get(FACTORS[0]) == 16 else {}

        text = GRID.replace("[4, 8]", "[4, 8, 16]")
        store = fill(tmp_path, "g", text, grid_score, on_another_machine)
        keys = {"kind": "grid", "ablation": "g", "factors": FACTORS, "only": {"variant": "ema"}}
        _, effects, *_ = report(tmp_path, store, **keys).tables
        flagged = {row.key: Flag.UNCLEAN in row.cells[0].flags for row in effects.rows}
        assert flagged["groups 16 vs 4"]
        assert not flagged["groups 8 vs 4"]
        assert any(note.startswith("†: not a clean pair") for note in effects.notes)

    def test_rows_that_are_not_shown_are_in_no_effect_and_their_choice_changes_no_mark(self, tmp_path):
        store = fill(tmp_path, "g", GRID.replace("[4, 8]", "[4, 8, 16]"), grid_score)
        keys = {"kind": "grid", "ablation": "g", "factors": FACTORS, "only": {"variant": "ema"}}
        grid, effects, _ = report(tmp_path, store, rows=["8", "4"], **keys).tables
        only = {"variant": "ema", FACTORS[0]: [4, 8]}
        alone, *_ = report(tmp_path, store, **{**keys, "only": only}).tables
        assert [row.name for row in grid.rows] == ["8", "4"]
        marks = {row.key: [cell.mark for cell in row.cells] for row in grid.rows}
        assert marks == {row.key: [cell.mark for cell in row.cells] for row in alone.rows}
        assert any("every other cell" in note or "all pairs of cells" in note for note in grid.notes)
        assert effects.rows[0].key == "groups 4 vs 8"
        assert not any("16" in row.key for row in effects.rows)

    def test_differences_to_the_baseline_where_asked(self, tmp_path):
        store = fill(tmp_path, "g", GRID, grid_score)
        keys = {"kind": "grid", "ablation": "g", "factors": FACTORS, "only": {"variant": "ema"}}
        grid = report(tmp_path, store, cells="delta", **keys).tables[0]
        assert grid.rows[1].cells[1].value == pytest.approx(3.0, abs=0.1)
        assert len(grid.rows[1].cells[1].baseline_run_ids) == 5
        assert not any("marked as the best" in note for note in grid.notes)

    def test_a_product_with_a_hole_shows_it_and_estimates_no_effects(self, tmp_path):
        def score(cell):
            axes = dict(cell.own_axes)
            return None if axes.get(FACTORS[0]) == 8 and axes[FACTORS[1]] == "stage_end" else 80.0 + cell.seed

        store = fill(tmp_path, "g", GRID, score)
        keys = {"kind": "grid", "ablation": "g", "factors": FACTORS, "only": {"variant": "ema"}}
        [grid] = report(tmp_path, store, **keys).tables
        assert grid.rows[1].cells[1].text is None
        assert Flag.HOLE in grid.rows[1].cells[1].flags
        assert any("No effects are estimated" in note for note in grid.notes)

    def test_rows_that_share_a_place_or_have_no_level_are_refused(self, tmp_path):
        store = fill(tmp_path, "g", GRID, grid_score)
        with pytest.raises(SpecError, match="the row 'none' lacks this key; choose rows with `only`"):
            report(tmp_path, store, kind="grid", ablation="g", factors=FACTORS)
        with pytest.raises(SpecError, match=r"has the rows .*; choose one with `only`"):
            report(tmp_path, store, kind="grid", ablation="g", factors=["variant", FACTORS[1]])

    def test_notes_do_not_mention_left_out_cells_outside_the_grid(self, tmp_path):
        skip = "skip: [{when: {variant: none}, reason: known}]\n"
        store = fill(tmp_path, "g", GRID.replace("baseline: none\n", "") + skip, grid_score)
        for rows in ([], ["8", "4"]):
            grid, *_ = report(tmp_path, store, kind="grid", ablation="g", factors=FACTORS, rows=rows).tables
            assert not any("left out" in note for note in grid.notes)


def test_rows_without_the_groups_key_may_stay_away(tmp_path):
    store = fill(tmp_path, "g", GRID, grid_score)
    names = [f"ema [groups={groups}, after=block_end]" for groups in (8, 4)]
    [table] = report(tmp_path, store, ablation="g", group=FACTORS[0], rows=names).tables
    assert [row.group for row in table.rows] == ["8", "4"]


class TestLeaveOneOut:
    @pytest.fixture
    def store(self, tmp_path):
        means = {"full": 92.0, "no attention": 90.0}
        return fill(
            tmp_path,
            "w",
            PARTS_BASE + PARTS,
            lambda cell: means.get(cell.variant, 91.0) + cell.seed + NOISE[(cell.seed + len(cell.row)) % 7],
        )

    def test_check_marks_say_what_is_on(self, tmp_path, store):
        keys = {"kind": "leave_one_out", "ablation": "w", "columns": ["top1", "wilcoxon"]}
        [table] = report(tmp_path, store, **keys).tables
        assert table.header == ("Variant", "attention", "local branch", "Top-1 (%)", "Wilcoxon p")
        checks = {row.key: [cell.text for cell in row.cells[:2]] for row in table.rows}
        assert checks == {"full": ["✓", "✓"], "no attention": ["–", "✓"], "no local branch": ["✓", "–"]}
        assert table.rows[0].cells[2].mark is Mark.BEST
        assert table.rows[2].cells[2].mark is Mark.SECOND
        assert table.rows[1].cells[3].p == pytest.approx(2 * 2 / 2**6)

    def test_a_part_may_be_off_in_several_rows(self, tmp_path, store):
        parts = {"any": ["no attention"], "local": ["no attention", "no local branch"]}
        keys = {"kind": "leave_one_out", "ablation": "w", "columns": ["top1"]}
        [table] = report(tmp_path, store, parts=parts, **keys).tables
        assert [row.cells[1].text for row in table.rows] == ["✓", "–", "–"]
        with pytest.raises(SpecError, match=r"parts\.any: no row is named 'no atention'"):
            report(tmp_path, store, parts={"any": ["no atention"]}, **keys)


class TestDataSets:
    def test_a_column_for_each_ablation_and_wins_over_them(self, tmp_path):
        gain = {"a": 1.0, "b": 0.0, "c": -1.0}
        for name in gain:
            text = BASE.replace("{name: synthetic}", f"{{name: synthetic, train_images: {ord(name)}}}") + TWO
            store = fill(
                tmp_path,
                name,
                text,
                lambda cell, name=name: (
                    80 + cell.seed + (gain[name] + NOISE[cell.seed]) * (cell.variant == "se")
                ),
            )
        keys = {"kind": "datasets", "ablations": {"A": "a", "B": "b", "C": "c"}}
        [table] = report(tmp_path, store, **keys).tables
        assert table.header == ("Variant", "A (%)", "B (%)", "C (%)", "W/T/L", "Mean Δ vs none", "p")
        assert texts(table)["se"][3] == "1/1/1"
        assert texts(table)["none"][3] == "baseline"
        assert [cell.mark for cell in table.rows[1].cells[:3]] == [Mark.BEST, None, None]
        assert any("No row is marked as the best in B (%)" in note for note in table.notes)
        assert len(table.rows[1].cells[3].run_ids) == 12

    def test_one_ablation_with_an_axis_of_data_sets(self, tmp_path):
        text = TWO + "axes: {data.train_images: [40, 80]}\n"
        store = fill(tmp_path, "d", text, lambda cell: 80.0 + cell.seed + (cell.variant == "se"))
        keys = {"kind": "datasets", "ablation": "d", "factors": ["data.train_images"]}
        [table] = report(tmp_path, store, **keys).tables
        assert table.header == ("Variant", "40 (%)", "80 (%)", "W/T/L", "Mean Δ vs none", "p")
        assert [row.key for row in table.rows] == ["none", "se"]

    def test_the_mean_difference_takes_each_data_set_as_one_observation(self, tmp_path):
        gain = {"a": 1.0, "b": 1.4, "c": 0.5}
        more = TWO.replace("{model.attention: se}}", "{model.attention: se}, eca: {model.attention: eca}}")
        for name in gain:
            store = fill(
                tmp_path,
                name,
                BASE.replace("{name: synthetic}", f"{{name: synthetic, train_images: {ord(name)}}}") + more,
                lambda cell, name=name: (
                    80
                    + cell.seed
                    + (gain[name] + NOISE[cell.seed]) * (cell.variant == "se")
                    + 0.1 * NOISE[ord(name) % 5] * (cell.variant == "eca")
                ),
            )
        keys = {"kind": "datasets", "ablations": {"A": "a", "B": "b", "C": "c"}}
        [table] = report(tmp_path, store, **keys).tables
        _, se, eca = (row.cells for row in table.rows)
        means = [gain[name] + np.mean(NOISE[:4]) for name in gain]
        assert se[4].value == pytest.approx(np.mean(means))
        half = t.ppf(0.975, 2) * np.std(means, ddof=1) / np.sqrt(3)
        assert (se[4].low, se[4].high) == pytest.approx((np.mean(means) - half, np.mean(means) + half))
        assert (se[4].n, se[4].spread_kind, se[4].scope) == (3, "datasets", "over data sets")
        raw = [paired_test(cells[4].values).p for cells in (se, eca)]
        assert [cells[5].p for cells in (se, eca)] == pytest.approx(holm(raw))
        assert (se[5].family, se[5].test, se[5].degrees) == (2, "paired t over data sets", 2)
        assert [cell.text for cell in table.rows[0].cells[4:]] == ["baseline"] * 2
        notes = " ".join(table.notes)
        assert "each data set is one observation" in notes
        assert "All other ±, intervals and tests are over seeds, for the test set of each." in notes
        [part] = report(tmp_path, store, rows=["none", "se"], **keys).tables
        assert part.rows[1].cells == se
        assert "Holm-corrected over 2 rows, of which 1 is shown" in " ".join(part.notes)
        flat = flat_records(table)[1]
        assert flat["mean_delta_low"] == se[4].low
        assert flat["p_raw"] == raw[0]

    def test_one_data_set_with_pairs_has_no_interval(self, tmp_path):
        other = BASE.replace("{name: synthetic}", "{name: synthetic, train_images: 8}")
        fill(tmp_path, "a", TWO, lambda cell: 80.0 + cell.seed)
        store = fill(tmp_path, "b", other + TWO, lambda cell: 80.0 if cell.variant == "none" else None)
        [table] = report(tmp_path, store, kind="datasets", ablations={"A": "a", "B": "b"}).tables
        assert texts(table)["se"][3:] == ["0.00 (1 of 2 data sets)", "untested (a test needs two data sets)"]

    def test_wins_are_corrected_over_all_data_sets(self, tmp_path):
        gain = [1.495, 0.505, 1.495, 0.505]
        assert 0.025 < paired_test(gain).p < 0.05
        for name in ("a", "b"):
            store = fill(
                tmp_path, name, TWO, lambda cell: 80 + cell.seed + gain[cell.seed] * (cell.variant == "se")
            )
        [table] = report(tmp_path, store, kind="datasets", ablations={"A": "a", "B": "b"}).tables
        assert texts(table)["se"][2] == "0/2/0"

    def test_names_hold_for_parts_of_rows_and_wrong_ones_are_refused(self, tmp_path):
        text = TWO + "axes: {data.train_images: [40, 80], recipe.epochs: [1, 2]}\n"
        store = fill(tmp_path, "d", text, lambda cell: 80.0 + cell.seed)
        keys = {"kind": "datasets", "ablation": "d", "factors": ["data.train_images"]}
        names = {"se": "SE", "recipe.epochs": "E", "40": "forty"}
        [table] = report(tmp_path, store, names=names, **keys).tables
        assert table.header[1] == "forty (%)"
        assert [row.name for row in table.rows][2:] == ["SE [E=1]", "SE [E=2]"]
        with pytest.raises(SpecError, match=r"names\.see: no row is named 'see'"):
            report(tmp_path, store, names={"see": "X"}, **keys)

    def test_a_missing_baseline_is_noted_only_where_something_is_compared_with_it(self, tmp_path):
        score = lambda cell: None if cell.variant == "none" else 80.0 + cell.seed  # noqa: E731
        fill(tmp_path, "a", TWO, score)
        store = fill(tmp_path, "b", TWO, score)
        keys = {"kind": "datasets", "ablations": {"A": "a", "B": "b"}, "rows": ["se"]}
        for cells, count in (("value", 0), ("delta", 1)):
            built = report(tmp_path, store, cells=cells, **keys)
            notes = [
                note for note in built.tables[0].notes if "of the baseline, which is no row here" in note
            ]
            assert len(notes) == count

    def test_data_sets_that_allow_no_test_are_neither_won_nor_tied(self, tmp_path):
        single = TWO.replace("[0, 1, 2, 3]", "[0]")
        for name in ("a", "b"):
            store = fill(tmp_path, name, single, lambda cell: 80.0 + (cell.variant == "se"))
        [table] = report(tmp_path, store, kind="datasets", ablations={"A": "a", "B": "b"}).tables
        assert texts(table)["se"][2] == "untested"

    def test_a_row_that_a_data_set_does_not_have_is_a_hole(self, tmp_path):
        fill(tmp_path, "a", TWO, lambda cell: 80.0 + cell.seed)
        store = fill(tmp_path, "b", TWO.replace("se:", "eca:").replace(" se}", " eca}"), lambda cell: 81.0)
        [table] = report(tmp_path, store, kind="datasets", ablations={"A": "a", "B": "b"}).tables
        assert texts(table)["eca"][0] == "n/a"
        assert texts(table)["eca"][2] == "0/1/0 (1 of 2 tested)"


class TestKeys:
    @pytest.fixture
    def store(self, tmp_path):
        scores = {"none": 90.0, "se": 91.0}
        return fill(
            tmp_path,
            "s",
            TWO,
            lambda cell: scores[cell.variant] + cell.seed + NOISE[(cell.seed + len(cell.variant)) % 7],
        )

    def table(self, tmp_path, store, **keys):
        [table] = report(tmp_path, store, ablation="s", **keys).tables
        return table

    def test_every_comparison_has_its_column(self, tmp_path, store):
        columns = ["top1", "n", "delta", "p", "wilcoxon", "effect", "detectable"]
        table = self.table(tmp_path, store, columns=columns)
        row = texts(table)["se"]
        assert row[1] == "4"
        assert row[4] == "untested (n=4: cannot reach 0.05)"
        assert float(row[6].split()[0]) == pytest.approx(table.rows[1].cells[6].value, abs=0.01)
        for sign in ("Δ:", "p (Top-1)", "Wilcoxon p", "g (Top-1)", "Detectable"):
            assert any(note.startswith(sign) for note in table.notes)

    def test_differences_of_any_metric_and_cost(self, tmp_path, store):
        columns = ["top1", "delta_loss", "delta_parameters", "delta_macs"]
        table = self.table(tmp_path, store, columns=columns)
        assert table.header[2:] == ("Δ Loss vs none", "Δ Parameters", "Δ MACs (M)")
        assert texts(table)["none"][1:] == ["baseline"] * 3
        assert texts(table)["se"][1:] == ["0.00 (n=4, all equal)", "0", "0.00"]
        assert table.rows[1].cells[2].baseline_run_ids == table.rows[0].cells[0].run_ids
        assert any(note.startswith("Δ:") for note in table.notes)
        assert flat_records(table)[1]["delta_loss_n"] == 4

    def test_n_may_stand_in_the_caption(self, tmp_path, store):
        table = self.table(tmp_path, store, counts="caption", columns=["top1"])
        assert "n=" not in texts(table)["se"][0]
        assert "n = 4 unless a cell says otherwise." in table.notes

    @pytest.mark.parametrize(
        ("spread", "words", "half"),
        [
            ("std", "sample standard deviation", 1.2704),
            ("se", "standard error", 1.2704 / 2),
            ("interval", "half of the 95 % t interval", 3.182446 * 1.2704 / 2),
            ("bootstrap", "below 20 seeds", 3.182446 * 1.2704 / 2),
        ],
    )
    def test_the_kind_of_spread_is_named(self, tmp_path, store, spread, words, half):
        table = self.table(tmp_path, store, spread=spread, columns=["top1"])
        assert words in table.notes[0]
        assert table.rows[1].cells[0].spread == pytest.approx(half, abs=2e-3)

    def test_rows_are_chosen_and_ordered(self, tmp_path, store):
        assert [row.key for row in self.table(tmp_path, store, order="metric").rows] == ["se", "none"]
        assert [row.key for row in self.table(tmp_path, store, rows=["se"]).rows] == ["se"]
        table = self.table(tmp_path, store, only={"variant": "se"})
        assert table.rows[0].cells[1].n == 4  # the baseline is known though it is not shown
        with pytest.raises(SpecError, match=r"rows\.0: no row is named 'sea'"):
            self.table(tmp_path, store, rows=["sea"])
        with pytest.raises(SpecError, match="only: no cell has"):
            self.table(tmp_path, store, only={"variant": "eca"})
        with pytest.raises(SpecError, match=r"only\.variant\.1: no cell has 'eca'"):
            self.table(tmp_path, store, only={"variant": ["se", "eca"]})

    def test_another_baseline(self, tmp_path, store):
        table = self.table(tmp_path, store, baseline="se")
        assert texts(table)["se"][1] == "baseline"
        assert table.rows[0].cells[1].value == pytest.approx(-1.0, abs=0.2)
        with pytest.raises(SpecError, match="baseline: no variant is named 'sea'"):
            self.table(tmp_path, store, baseline="sea")

    def test_a_name_for_print_is_the_baselines_too(self, tmp_path, store):
        table = self.table(tmp_path, store, names={"none": "Plain"})
        assert table.columns[1].label == "Δ Top-1 vs Plain"
        assert any("paired difference to 'Plain'" in note for note in table.notes)

    def test_footnotes_are_numbered_where_they_belong(self, tmp_path, store):
        table = self.table(tmp_path, store, footnotes={"se": "Reduction 16."})
        assert "se¹" in render_text(table)
        assert "¹ Reduction 16." in render_markdown(table)

    def test_ranks_can_be_left_out(self, tmp_path, store):
        assert self.table(tmp_path, store).rows[1].cells[0].mark is Mark.BEST
        assert self.table(tmp_path, store, rank=False).rows[1].cells[0].mark is None
        text = render_text(self.table(tmp_path, store))
        assert "**92.50 ± 1.27** (n=4)" in text
        assert "Bold: better than every other row" in text


def test_groups_gather_rows_and_are_ranked_alone(tmp_path):
    text = TWO + "axes: {recipe.epochs: [1, 2]}\n"

    def score(cell):
        epochs = dict(cell.axes)["recipe.epochs"]
        gain = (cell.variant == "se") * (1.0 if epochs == 2 else 0.0)
        return 80.0 + 5 * epochs + cell.seed + gain + NOISE[(cell.seed + len(cell.variant)) % 7] / 10

    store = fill(tmp_path, "s", text, score)
    [table] = report(tmp_path, store, ablation="s", group="recipe.epochs").tables
    names = {"none": "Plain", "se": "SE", "1": "One epoch"}
    [named] = report(tmp_path, store, ablation="s", group="recipe.epochs", names=names).tables
    assert [(row.group, row.name) for row in named.rows[:2]] == [("One epoch", "Plain"), ("One epoch", "SE")]
    assert named.columns[1].label == "Δ Top-1 vs Plain"
    [plain] = report(tmp_path, store, ablation="s", names=names).tables
    assert plain.rows[1].name == "Plain [epochs=2]"
    names = ["se [epochs=2]", "se [epochs=1]"]
    [alone] = report(tmp_path, store, ablation="s", group="recipe.epochs", rows=names).tables
    assert not any("marked as the best" in note for note in alone.notes)  # no pair within a group is shown
    assert alone.rows[0].cells[0].mark is Mark.BEST  # of the hidden pair
    assert any(
        "Bold: better than every other row of its group (shown or not)" in note for note in alone.notes
    )
    with pytest.raises(
        SpecError, match="group: the row 'none \\[epochs=1\\]' has several values of seed: 0, 1"
    ):
        report(tmp_path, store, ablation="s", group="seed")
    assert [(row.group, row.name) for row in table.rows] == [
        ("1", "none"),
        ("1", "se"),
        ("2", "none"),
        ("2", "se"),
    ]
    assert [row.cells[0].mark for row in table.rows] == [None, None, None, Mark.BEST]
    lines = render_markdown(table).splitlines()
    assert [line.split("|")[1].strip() for line in lines[4:8]] == ["1", "", "2", ""]
    assert [record["group"] for record in flat_records(table)] == ["1", "1", "2", "2"]


def test_a_key_that_does_not_fit_is_named_with_its_line(tmp_path):
    store = fill(tmp_path, "s", TWO, lambda cell: 80.0 + cell.seed)
    path = tmp_path / "r.yaml"
    for line, place in (
        ("rows: [se, sea]", "rows.1"),
        ("group: recipe.epoch", "group"),
        ("baseline: x", "baseline"),
    ):
        path.write_text(f"name: r\nablation: {tmp_path / 's.yaml'}\n\n{line}\n")
        with pytest.raises(SpecError, match=rf"^{path}:4: {place}: "):
            build_report(load_report(path), store)


def test_one_column_of_a_spread_for_rows_with_and_without_it(tmp_path):
    store = fill(tmp_path, "s", TWO, lambda cell: 80.0 + cell.seed * (cell.variant == "se"))
    [table] = report(tmp_path, store, ablation="s", spread="interval", columns=["top1"]).tables
    assert [key for key in flat_records(table)[0] if key.startswith("top1")] == [
        "top1",
        "top1_half_width",
        "top1_mark",
    ]


@pytest.mark.parametrize("key", [{"spread": "se"}, {"rank": False}])
def test_what_differences_do_not_show_is_refused(key):
    with pytest.raises(ValidationError, match="changes nothing"):
        ReportSpec.model_validate(
            {"name": "r", "kind": "grid", "ablation": "g", "factors": FACTORS, "cells": "delta", **key}
        )


def test_every_cell_of_the_json_lists_its_runs(tmp_path):
    store = fill(tmp_path, "s", TWO, lambda cell: 80.0 + cell.seed if cell.seed else None)
    built = report(tmp_path, store, ablation="s")
    data = json.loads(report_files(built)["report.json"])
    assert data["tables"] == [table_data(built.tables[0])]
    none, se = data["tables"][0]["rows"]
    top1, delta, parameters, _ = se["cells"]
    assert len(top1["run_ids"]) == top1["n"] == 3
    assert top1["expected"] == 4
    assert len(top1["missing_run_ids"]) == 1
    assert top1["flags"] == ["missing"]
    assert top1["values"] == [81.0, 82.0, 83.0]
    assert delta["baseline_run_ids"] == none["cells"][0]["run_ids"]
    assert parameters["value"] == 12_345
    for run_id, value in zip(top1["run_ids"], top1["values"], strict=True):
        assert store.record(run_id).metrics["top1"] == value


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"kind": "grid", "ablation": "x"}, "factors: is needed by the kind grid"),
        ({"kind": "datasets"}, "ablations: is needed"),
        ({"kind": "main"}, "ablation: is needed"),
        ({"ablation": "x", "factors": ["a", "b"]}, "factors: changes nothing"),
        ({"ablation": "x", "cells": "delta"}, "cells: changes nothing"),
        ({"ablation": "x", "parts": {"a": ["b"]}}, "parts: changes nothing"),
        ({"ablation": "x", "ablations": {"a": "b"}}, "ablations: changes nothing"),
        ({"ablation": "x", "order": "metric", "rows": ["a"]}, "order: changes nothing"),
        ({"kind": "grid", "ablation": "x", "factors": ["a", "b"], "columns": ["top1"]}, "columns: changes"),
        ({"ablation": "x", "columns": ["top 2"]}, "no column is named 'top 2'"),
        ({"ablation": "x", "metric": "top 2"}, "metric: must be small letters and digits"),
    ],
)
def test_a_key_that_changes_nothing_or_is_missing_is_refused(keys, words):
    with pytest.raises(ValidationError) as caught:
        ReportSpec.model_validate({"name": "r", **keys})
    [error] = caught.value.errors()
    assert words in f"{'.'.join(map(str, error['loc']))}: {error['msg']}"


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("columns: [loss, top2]", "r.yaml:3: columns.1: no column is named 'top2'; did you mean 'top5'"),
        ("columns: [delta_top2]", "r.yaml:3: columns.0: no column is named 'delta_top2'"),
        ("metric: top2", "r.yaml:3: metric: no metric is named 'top2'"),
        (
            "figures: [{kind: forest, name: f, metric: top2}]",
            "r.yaml:3: figures.0: no metric is named 'top2'",
        ),
    ],
)
def test_a_metric_that_the_task_lacks_is_refused_with_its_line(tmp_path, keys, words):
    (tmp_path / "r.yaml").write_text(f"name: r\nablation: quickstart\n{keys}\n")
    with pytest.raises(SpecError, match=re.escape(words)):
        build_report(load_report(tmp_path / "r.yaml"), RunStore(tmp_path / "runs"))


class TestLatency:
    HOW = {"what": "latency", "mode": "inference", "batch": 8, "rounds": 8, "device": "cpu: x"}
    COLUMNS = ["latency", "latency_ratio", "parameters"]

    def keep(self, folder, milliseconds, *, variants=("se",), versions="2", **how):
        """Cache latencies as `ema-lab cost --latency` does."""
        cells = {cell.variant: cell for cell in load_ablation(folder / "s.yaml").cells}
        cache = CostCache(folder / "runs", {"torch": versions})
        ratio = {"ratio": milliseconds / 10, "ratio_low": 1.1, "ratio_high": 1.3}
        for name in variants:
            pair = (cells[name].spec, cells["none"].spec)
            kept = {"baseline_ms": 10.0, "ms": milliseconds, **ratio}
            cache.get(pair, {"threads": "2 threads", **self.HOW, **how}, lambda kept=kept: kept)

    @pytest.fixture
    def store(self, tmp_path):
        text = TWO.replace(
            "se: {model.attention: se}", "se: {model.attention: se}, ca: {model.attention: ca}"
        )
        return fill(tmp_path, "s", text, lambda cell: 80.0 + cell.seed)

    def test_kept_times_have_columns_and_a_note(self, tmp_path, store):
        self.keep(tmp_path, 12.0)
        [table] = report(tmp_path, store, ablation="s", columns=self.COLUMNS).tables
        assert texts(table)["none"][:2] == ["10.00", "baseline"]
        assert texts(table)["se"][:2] == ["12.00", "1.20 [1.10, 1.30]"]
        assert texts(table)["ca"][:2] == ["n/a", "n/a"]
        [note] = [note for note in table.notes if note.startswith("Latency")]
        assert "8 images (inference, fp32, cpu: x, 2 threads)" in note
        [_, se, _] = flat_records(table)
        assert (se["latency"], se["latency_ratio"], se["latency_ratio_high"]) == (12.0, 1.2, 1.3)

    def test_times_of_several_devices_are_never_mixed(self, tmp_path, store):
        self.keep(tmp_path, 12.0, variants=("se", "ca"))
        self.keep(tmp_path, 3.0, device="cuda: y")
        [table] = report(tmp_path, store, ablation="s", columns=self.COLUMNS).tables
        assert [texts(table)[name][0] for name in ("se", "ca")] == ["12.00", "12.00"]

    def test_times_of_another_source_are_left_out(self, tmp_path, store, monkeypatch):
        self.keep(tmp_path, 12.0)
        monkeypatch.setattr("ema_lab.store.cost_cache.package_hash", lambda source: "another")
        [table] = report(tmp_path, store, ablation="s", columns=self.COLUMNS).tables
        assert texts(table)["se"][0] == "n/a"
        assert "Latency: nothing is measured yet; ema-lab cost --latency measures it." in table.notes

    def test_damaged_files_are_none(self, tmp_path, store):
        self.keep(tmp_path, 12.0)
        (tmp_path / "runs" / ".costs" / "0.json").write_text("{")
        (tmp_path / "runs" / ".costs" / "1.json").write_text("[1]")
        [table] = report(tmp_path, store, ablation="s", columns=self.COLUMNS).tables
        assert texts(table)["se"][0] == "12.00"

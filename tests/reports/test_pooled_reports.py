"""`test: pooled`: tests by variances that the compared rows share."""

import json

import numpy as np
import pytest
from made_up import fill, report, report_spec
from pydantic import ValidationError

from ema_lab.reports.figures.assemble import report_figures
from ema_lab.statistics.pooled import corrected_p, pooled_contrasts
from ema_lab.tables.cell import Mark
from ema_lab.tables.csv_text import render_csv
from ema_lab.tables.render import flat_records, render_json

SEEDS = [0, 1, 2]
ROWS = [f"r{number}" for number in range(6)]
STUDY = f"seeds: {SEEDS}\nbaseline: r0\nvariants:\n" + "".join(
    f"  {name}: {{model.attention: {{name: se, reduction: {number + 1}}}}}\n"
    for number, name in enumerate(ROWS)
)
VALUES = 90 + np.random.default_rng(27).normal(0, 0.2, (len(ROWS), len(SEEDS)))
VALUES[2] += 1.2
VALUES[4] = 90 + np.array([-9.0, 8.0, 2.0])  # a diverged run, say
COLUMNS = ["top1", "delta", "p", "wilcoxon"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pooled")


@pytest.fixture(scope="module")
def store(folder):
    return fill(folder, "s", STUDY, lambda cell: float(VALUES[ROWS.index(cell.variant), cell.seed]))


@pytest.fixture
def table(folder, store):
    """Return a function that builds a report's first table."""
    return lambda **keys: report(folder, store, ablation="s", **{"columns": COLUMNS, **keys}).tables[0]


def cells(table, column):
    index = [each.key for each in table.columns].index(column)
    return {row.key: row.cells[index] for row in table.rows}


def contrasts():
    return pooled_contrasts((VALUES[1:] - VALUES[0]).tolist())


def test_p_values_are_those_of_the_pooled_analysis(table):
    paired, pooled = cells(table(test="paired"), "p"), cells(table(test="pooled"), "p")
    expected = dict(zip(ROWS[1:], corrected_p(contrasts().contrasts), strict=True))
    assert {name: pooled[name].p for name in ROWS[1:]} == pytest.approx(expected)
    assert pooled["r2"].p < 0.05 < paired["r2"].p
    assert pooled["r2"].p_raw <= pooled["r2"].p
    assert (pooled["r2"].test, pooled["r2"].family) == ("paired t, pooled variance", 5)
    assert pooled["r2"].degrees == pytest.approx(4 * 2 / (1 + 3 / 4))
    assert (pooled["r4"].test, pooled["r4"].degrees) == ("paired t", 2)
    assert cells(table(test="paired"), "wilcoxon") == cells(table(test="pooled"), "wilcoxon")


def test_pooling_is_the_default_where_several_rows_are_compared(folder, table, store):
    assert table().rows == table(test="pooled").rows
    assert table().notes == table(test="pooled").notes
    assert table().rows != table(test="paired").rows
    decided = {"seeds": "decided", "columns": ["delta", "p"]}
    assert "pooled" not in " ".join(table(**decided).notes).lower()
    classes = report(folder, store, ablation="s", kind="grid", factors=["variant", "seed"], cells="delta")
    assert "pooled" not in " ".join(classes.tables[0].notes).lower()


def test_two_rows_without_a_baseline_are_one_pair(folder):
    study = STUDY[: STUDY.index("  r2:")].replace("baseline: r0\n", "")
    small = fill(folder, "pair", study, lambda cell: float(VALUES[ROWS.index(cell.variant), cell.seed]))
    [built] = report(folder, small, ablation="pair", columns=["top1"]).tables
    assert "paired t tests, Holm-corrected over all pairs" in " ".join(built.notes)


def test_a_cell_does_not_depend_on_what_else_is_shown(table):
    keys = {"test": "pooled", "intervals": "simultaneous"}
    for column in ("p", "delta"):
        assert cells(table(rows=["r2"], **keys), column)["r2"] == cells(table(**keys), column)["r2"]


def test_intervals_by_themselves_are_a_rows_own_and_simultaneous_ones_pooled(table):
    assert cells(table(test="pooled"), "delta") == cells(table(test="paired"), "delta")
    alone, together = (
        cells(table(intervals="simultaneous", test=test), "delta")["r2"] for test in ("paired", "pooled")
    )
    assert together.spread < alone.spread
    expected = contrasts().contrasts[1].interval(5)
    assert (together.low, together.high) == pytest.approx((expected.low, expected.high))


def test_the_caption_states_the_model_and_what_the_check_decided(table):
    notes = " ".join(table(test="pooled").notes)
    assert (
        "p (Top-1): paired t test with pooled variance against 'r0', Holm-corrected over the rows." in notes
    )
    for test, seeds in (("pooled", "seeds with the row's own variance finds"), ("paired", "seeds finds")):
        detectable = " ".join(table(test=test, columns=["top1", "detectable"]).notes)
        assert f"a paired t test of these {seeds} with 80 % power" in detectable
    assert "; 4.57 degrees of freedom. A row is significant only if its own paired t test" in notes
    assert "is below 4 %, too." in notes
    checks = (
        "4 rows pooled; left out, and tested by their own variance (F tests): r4; weight 2.0 of at most 2"
    )
    assert checks in notes
    assert "paired t tests with pooled variance, Holm-corrected over all pairs of rows" in notes
    assert "Pooled" not in " ".join(table(test="paired").notes)
    simultaneous = table(test="pooled", intervals="simultaneous", columns=["delta"])
    assert "(pooled variance, Bonferroni over 5 comparisons)" in " ".join(simultaneous.notes)
    assert "Pooled" not in " ".join(table(test="pooled", columns=["top1", "delta"]).notes)


def test_a_single_compared_row_has_nothing_to_pool(folder):
    study = STUDY[: STUDY.index("  r2:")]
    small = fill(folder, "two", study, lambda cell: float(VALUES[ROWS.index(cell.variant), cell.seed]))
    keys = {"ablation": "two", "columns": COLUMNS}
    pooled, paired = (report(folder, small, test=test, **keys).tables[0] for test in ("pooled", "paired"))
    assert cells(pooled, "p") == cells(paired, "p")
    assert report(folder, small, **keys).tables[0] == paired
    assert "Pooled variance (Top-1): none" in " ".join(pooled.notes)


def test_files_name_the_test_and_its_degrees_of_freedom(table):
    built = table(test="pooled")
    text = render_json("r", [built])
    assert '"test": "paired t, pooled variance"' in text
    degrees = {
        cell["degrees_of_freedom"] for row in json.loads(text)["tables"][0]["rows"] for cell in row["cells"]
    }
    assert sorted(degrees - {None}) == pytest.approx([2, 32 / 7])
    [line] = [line for line in render_csv(flat_records(built)).splitlines() if line.startswith("r2")]
    assert '5,"paired t, pooled variance",4.57' in line


def test_ranks_and_equivalence_are_pooled(table):
    built = table(test="pooled", columns=["top1", "delta", "equivalence"], margin=1.0)
    paired = table(test="paired", columns=["top1", "delta", "equivalence"], margin=1.0)
    assert cells(built, "top1")["r2"].mark is cells(paired, "top1")["r2"].mark is None  # r4 is too loud
    equal, alone = (cells(each, "equivalence") for each in (built, paired))
    assert sum(cell.mark is Mark.EQUIVALENT for cell in equal.values()) > sum(
        cell.mark is Mark.EQUIVALENT for cell in alone.values()
    )
    assert equal["r1"].test == "two one-sided paired t, pooled variance"
    assert "two one-sided paired t tests with pooled variance" in " ".join(built.notes)


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"seeds": "decided", "columns": ["delta"]}, "pooled needs a fixed number of seeds"),
        ({"kind": "classes", "columns": ()}, "changes nothing in this report of the kind classes"),
        ({"columns": ["top1", "delta"], "rank": False}, "changes nothing without a test"),
    ],
)
def test_a_pool_that_would_change_nothing_is_refused(folder, keys, why):
    kept = {key: value for key, value in {"columns": COLUMNS, **keys}.items() if value != ()}
    with pytest.raises(ValidationError, match=why):
        report_spec(folder, ablation="s", test="pooled", **kept)


@pytest.mark.parametrize(
    "keys", [{}, {"rows": ["r0", "r2", "r4"]}, {"only": {"variant": ["r0", "r2", "r3"]}}]
)
def test_a_forest_has_the_intervals_of_the_table(folder, store, table, keys):
    keys = {"intervals": "simultaneous", "columns": ["delta"], **keys}
    spec = report_spec(folder, ablation="s", figures=[{"kind": "forest", "name": "f"}], **keys)
    [drawn] = report_figures(spec, store)
    expected = {name: cell for name, cell in cells(table(**keys), "delta").items() if name != "r0"}
    bounds = sorted(
        tuple(collection.get_segments()[0][:, 0])
        for collection in drawn.drawing.axes[0].collections
        if hasattr(collection, "get_segments") and len(collection.get_segments()) == 1
    )
    assert bounds == [
        pytest.approx((cell.low, cell.high)) for cell in sorted(expected.values(), key=lambda c: c.low)
    ]
    assert "pooled variance, Bonferroni over 5 comparisons" in drawn.caption

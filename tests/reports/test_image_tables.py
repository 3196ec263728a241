"""Numbers over test images in tables: columns over seeds and images, and runs by themselves."""

import json
import shutil
from contextlib import chdir
from pathlib import Path

import pytest
from made_up import fill, report
from predicted import ABLATIONS, METRIC, VARIANTS
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from test_predicted_bundle import with_fitting_sum

from ema_lab.ablation.ablation import load_ablation
from ema_lab.errors import SpecError
from ema_lab.measured.analysis import Analyses
from ema_lab.measured.images import ImageResults
from ema_lab.measured.selection import select_rows
from ema_lab.reports.bundle.bundle import write_bundle
from ema_lab.reports.bundle.unpack import unpacked
from ema_lab.reports.bundle.verify import verify_bundle
from ema_lab.reports.check.compare import compare
from ema_lab.reports.files import report_files
from ema_lab.reports.report import build_report
from ema_lab.specs.report import ReportSpec, load_report
from ema_lab.specs.task import task_description
from ema_lab.statistics.images import crossed_estimate
from ema_lab.store.layout import ANALYSIS, PREDICTIONS
from ema_lab.store.predictions import read_predictions, write_predictions
from ema_lab.store.store import RunStore
from ema_lab.tables.cell import Flag
from ema_lab.tables.render import flat_records, render_csv, table_data

COLUMNS = ["metric_images", "delta_images"]
IMAGES = {"classification": 60, "detection": 20}


@pytest.fixture(scope="module")
def predicted_of_session(predicted_of_session, tmp_path_factory):
    """The made-up runs with their results by test image, which are computed once here."""
    task, original = predicted_of_session
    folder = shutil.copytree(original, tmp_path_factory.mktemp("images") / "predicted")
    path = folder / "ablations/predicted.yaml"
    tree = {"name": "r", "ablation": str(path), "metric": METRIC[task], "kind": "images"}
    build_report(ReportSpec.model_validate(tree), RunStore(folder / "runs"))
    return task, folder


@pytest.fixture
def tree(predicted):
    """Keys of a report on the made-up runs."""
    path = predicted.folder / "ablations/predicted.yaml"
    return {"name": "r", "ablation": str(path), "metric": METRIC[predicted.task]}


@pytest.fixture
def table(predicted, tree):
    """Return a function that builds a report's table."""
    return lambda **keys: build_report(ReportSpec.model_validate({**tree, **keys}), predicted.store).tables[0]


def rows_of(predicted):
    return select_rows(load_ablation(predicted.folder / "ablations/predicted.yaml"), predicted.store)


def lose_predictions(predicted, name, seed):
    """Remove the predictions of one run, and what was derived from them."""
    [row] = [row for row in rows_of(predicted) if row.name == name]
    [item] = [item for item in row.cells if item.cell.seed == seed]
    for file in (PREDICTIONS, ANALYSIS):
        (predicted.store.folder(item.cell.run_id) / file).unlink(missing_ok=True)
    return item.cell.run_id


def test_columns_over_seeds_and_images(table, predicted):
    metric = METRIC[predicted.task]
    found = table(columns=[metric, "metric_images", "delta", "delta_images"], spread="interval")
    by_image = ImageResults(Analyses(predicted.store, task_description(predicted.task)), metric)
    for row, measured in zip(found.rows, rows_of(predicted), strict=True):
        seeds, both, delta, delta_both = row.cells
        assert both.value == pytest.approx(seeds.value, abs=1e-3)
        assert (both.spread_kind, both.images) == (
            "seeds_and_images",
            IMAGES[predicted.task],
        )
        assert both.spread > seeds.spread
        assert both.run_ids == seeds.run_ids
        drawn = [result.drawn for _, result in by_image.of_row(measured)]
        assert both.spread == crossed_estimate(both.values, drawn, both.images).half_width
        if not row.is_baseline:
            assert delta_both.value == pytest.approx(delta.value, abs=1e-3)
            assert delta_both.high - delta_both.low >= delta.high - delta.low - 1e-3
            assert delta_both.baseline_run_ids == delta.baseline_run_ids
    assert found.rows[0].cells[3].text == "baseline"


def test_captions_say_what_an_interval_generalises_to(table, predicted):
    metric = METRIC[predicted.task]
    notes = " ".join(table(columns=[metric, "delta"]).notes)
    assert "All ±, intervals and tests are over seeds, for this test set" in notes
    assert "test images would add to them" in notes
    both = table(columns=[metric, *COLUMNS])
    words = " ".join(both.notes)
    assert words.count("95 % interval over seeds and test images") == 2
    assert "All other ±, intervals and tests are over seeds, for this test set." in words
    cells = table_data(both)["rows"][1]["cells"]
    scopes = ["over seeds, for this test set", *["over seeds and test images"] * 2]
    assert [cell["scope"] for cell in cells] == scopes
    assert all(cell["standard_error_images"] >= 0 for cell in cells[1:])


def test_data_have_both_standard_errors(table):
    text = render_csv(flat_records(table(columns=COLUMNS))).splitlines()
    for key in COLUMNS:
        for part in ("", "_half_width", "_low", "_high", "_se_seeds", "_se_images", "_n", "_images"):
            assert f"{key}{part}" in text[0].split(",")
    assert all(len(line.split(",")) == len(text[0].split(",")) for line in text)


def test_simultaneous_intervals_hold_for_all_rows(table):
    each, together = (table(columns=COLUMNS, intervals=kind) for kind in ("each", "simultaneous"))
    assert together.rows[1].cells[1].spread > each.rows[1].cells[1].spread
    assert "(all compared rows together, Bonferroni)" in " ".join(together.notes)


def test_missing_predictions_are_a_named_hole(table, predicted):
    lost = lose_predictions(predicted, "ema", 1)
    for seed in range(3):
        lose_predictions(predicted, "se", seed)
    found = table(columns=[METRIC[predicted.task], *COLUMNS])
    none, se, ema = (row.cells for row in found.rows)
    assert (ema[0].n, ema[1].n, ema[2].n) == (3, 2, 2)
    assert ema[1].missing_run_ids == ema[2].missing_run_ids == (lost,)
    assert ema[1].plain_text.endswith("(n=2 of 3)")
    assert (se[1].text, Flag.HOLE in se[1].flags, se[2].text) == (None, True, None)
    assert none[1].n == 3
    names = "se seed 0, se seed 1, se seed 2, ema seed 1"
    assert f"Without usable predictions, so in no number over test images: {names}." in found.notes
    alone = table(kind="images", metric=METRIC[predicted.task])
    is_hole = [row.cells[0].text is None for row in alone.rows]
    assert is_hole == [*[False] * 3, *[True] * 3, False, True, False]


def test_a_baseline_without_predictions_is_the_hole_of_a_difference(table, predicted):
    lost = lose_predictions(predicted, "none", 2)
    ema = table(columns=COLUMNS).rows[2].cells
    assert (ema[0].n, ema[1].n, ema[1].missing_run_ids) == (3, 2, (lost,))


def test_predictions_of_other_test_images_are_not_paired(table, predicted):
    if predicted.task == "detection":
        return
    [row] = [row for row in rows_of(predicted) if row.name == "ema"]
    record = row.cells[0].record
    folder = predicted.store.folder(record.run_id)
    arrays = read_predictions(folder)
    kept = {key: value for key, value in arrays.items() if key in ("logits", "labels")}
    sha256 = write_predictions(folder, {**kept, "indices": arrays["indices"] + 1}, "test", record.run_id)
    predicted.store.write(record.model_copy(update={"predictions_sha256": sha256}))
    found = table(columns=COLUMNS)
    assert found.rows[2].cells[1].n < 3
    assert "Without usable predictions" in " ".join(found.notes)


class TestRunsByThemselves:
    def test_every_run_has_its_interval_over_images(self, table, predicted):
        found = table(kind="images")
        assert [row.key for row in found.rows[2:5]] == ["none seed=2", "se seed=0", "se seed=1"]
        for row in found.rows:
            assert row.cells[0].spread_kind == "images"
            assert row.cells[0].low < row.cells[0].value < row.cells[0].high
            assert (row.cells[0].n, row.seeds) == (1, 1)
        words = "over test images, for these trained networks"
        assert words in found.notes[0]
        assert "for this test set" not in " ".join(found.notes)
        assert table_data(found)["rows"][4]["cells"][1]["scope"] == words

    def test_discordant_images_are_counted_and_tested_exactly(self, table, predicted):
        found = table(kind="images")
        if predicted.task == "detection":  # average precision counts no images
            assert [column.key for column in found.columns] == ["metric_images", "delta_images"]
            return
        right = {}
        for row in rows_of(predicted):
            for item in row.cells:
                arrays = read_predictions(predicted.store.folder(item.cell.run_id))
                right[row.name, item.cell.seed] = arrays["logits"].argmax(1) == arrays["labels"]
        cells = {row.key: row.cells for row in found.rows}
        raw = []
        for name in ("se", "ema"):
            for seed in range(3):
                mine, other = right[name, seed], right["none", seed]
                counts = [int((mine & ~other).sum()), int((~mine & other).sum())]
                row_cells = cells[f"{name} seed={seed}"]
                assert [cell.value for cell in row_cells[2:4]] == counts
                raw.append(mcnemar([[0, counts[0]], [counts[1], 0]], exact=True).pvalue)
                assert row_cells[4].p_raw == pytest.approx(raw[-1])
                assert (row_cells[4].family, row_cells[4].test) == (6, "McNemar exact")
        corrected = [cells[f"{name} seed={seed}"][4].p for name in ("se", "ema") for seed in range(3)]
        assert corrected == pytest.approx(multipletests(raw, method="holm")[1])

    def test_hidden_rows_belong_to_the_family(self, table, predicted):
        if predicted.task == "detection":
            return
        whole, part = table(kind="images"), table(kind="images", rows=["ema"])
        assert [row.cells for row in part.rows] == [row.cells for row in whole.rows[6:]]
        assert "Holm-corrected over 6 comparisons, of which 3 are shown" in " ".join(part.notes)

    def test_a_metric_that_counts_no_images_has_no_counts(self, table, predicted):
        if predicted.task == "classification":
            assert len(table(kind="images", metric="loss").columns) == 2
            assert len(table(kind="images", metric="top5").columns) == 5

    def test_without_a_baseline_runs_have_intervals_alone(self, predicted, tree):
        path = predicted.folder / "ablations/alone.yaml"
        text = (
            ABLATIONS[predicted.task]
            .replace("baseline: none\n", "")
            .replace("name: predicted", "name: alone")
        )
        path.write_text(text)
        spec = ReportSpec.model_validate({**tree, "ablation": str(path), "kind": "images"})
        [found] = build_report(spec, predicted.store).tables
        assert [column.key for column in found.columns] == ["metric_images"]


@pytest.mark.parametrize("keys", [{"kind": "images"}, {"columns": COLUMNS}])
def test_what_is_written_is_checked_bundled_and_verified(predicted, tree, keys):
    (predicted.folder / "reports").mkdir()
    with chdir(predicted.folder):
        path = Path("reports/r.yaml")
        path.write_text(json.dumps({**tree, **keys, "ablation": "predicted"}))
        spec = load_report(path)
        files = report_files(build_report(spec, predicted.store))
        for name, text in files.items():
            Path(name).write_text(text)
        assert compare(Path(), files).differences == ()
        content = json.loads(Path("report.json").read_text())
        content["tables"][0]["rows"][2]["cells"][0]["standard_error_images"] += 0.1
        Path("report.json").write_text(json.dumps(content))
        [difference] = compare(Path(), files).differences
        assert "standard_error_images" in str(difference)
        write_bundle(spec, Path("r.zip"), predicted.store, path)
        with unpacked(Path("r.zip")) as folder:
            assert verify_bundle(folder).problems == ()
            changed = sorted(folder.glob(f"runs/*/{ANALYSIS}"))[0]
            entries = json.loads(changed.read_text())
            next(iter(entries["entries"].values()))["value"] += 1
            changed.write_text(json.dumps(entries, indent=1, sort_keys=True) + "\n")
            with_fitting_sum(folder, changed)
            problems = verify_bundle(folder).problems
        assert any("over all test images is" in problem for problem in problems)


@pytest.mark.parametrize("damage", [{}, {"drawn": ["x"]}, {"value": None}, {"right": "zz"}, {"images": 3}])
def test_a_damaged_analysis_is_a_hole(table, predicted, damage):
    if predicted.task == "detection":
        return
    table(columns=COLUMNS)
    [row] = [row for row in rows_of(predicted) if row.name == "ema"]
    path = predicted.store.folder(row.cells[0].cell.run_id) / ANALYSIS
    content = json.loads(path.read_text())
    [key] = content["entries"]
    content["entries"][key] = {**content["entries"][key], **damage} if damage else {}
    path.write_text(json.dumps(content))
    found = table(columns=COLUMNS)
    assert found.rows[2].cells[0].n in {1, 2}
    assert "Without usable predictions" in " ".join(found.notes)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"kind": "images", "spread": "se"}, r"spread\n  changes nothing"),
        ({"kind": "images", "columns": ["top1"]}, r"columns\n  changes nothing"),
        ({"kind": "images", "rank": False}, r"rank\n  changes nothing"),
        ({"columns": ["metric_images"], "seeds": "decided"}, "'metric_images' needs a fixed number of seeds"),
        ({"columns": ["metric_images"], "intervals": "simultaneous"}, r"intervals\n  changes nothing"),
    ],
)
def test_keys_that_do_not_apply_are_refused(keys, words):
    with pytest.raises(ValueError, match=words):
        ReportSpec.model_validate({"name": "r", "ablation": "quickstart", **keys})


def test_a_difference_over_images_needs_a_baseline(tmp_path):
    store = fill(tmp_path, "s", VARIANTS.replace("baseline: none\n", ""), lambda cell: 90.0 + cell.seed)
    with pytest.raises(SpecError, match="'delta_images' needs a baseline"):
        report(tmp_path, store, ablation="s", columns=["delta_images"])


def test_runs_without_predictions_are_holes_of_every_number_over_images(tmp_path):
    store = fill(tmp_path, "s", VARIANTS, lambda cell: 90.0 + cell.seed)
    [table] = report(tmp_path, store, ablation="s", columns=["top1", *COLUMNS]).tables
    assert {cell.text for row in table.rows[1:] for cell in row.cells[1:]} == {None}
    assert "0 test images" not in " ".join(table.notes)
    assert any(note.startswith("Without usable predictions") and "ema seed 2" in note for note in table.notes)

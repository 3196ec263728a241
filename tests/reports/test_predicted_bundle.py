"""Report, page, check, bundle and verify over both tasks, with tables and figures of stored predictions."""

import hashlib
import json
import zipfile
from contextlib import chdir
from pathlib import Path

import pytest
from predicted import METRIC

from ema_lab.reports.bundle.bundle import write_bundle
from ema_lab.reports.bundle.verify import verify_bundle
from ema_lab.reports.check.compare import compare
from ema_lab.reports.files import all_files
from ema_lab.reports.page.data import report_data
from ema_lab.reports.report import build_report
from ema_lab.specs.report import load_report
from ema_lab.store.layout import ANALYSIS

FIGURES = {
    "classification": [{"kind": "confusion", "row": "ema"}, {"kind": "classes", "metric": "top1"}],
    "detection": [
        {"kind": "precision_recall"},
        {"kind": "confusion"},
        {"kind": "sizes"},
        {"kind": "classes", "metric": "ap50_visdrone"},
    ],
}


BOTH_IN_TIME = pytest.mark.parametrize(  # detection, which takes longer, among the slow tests
    "predicted_of_session",
    ["classification", pytest.param("detection", marks=pytest.mark.slow)],
    indirect=True,
)


@pytest.fixture
def made(predicted):
    """Return a report of a task by its definition, in the folder of its runs."""
    figures = [{"name": f["kind"], **f} for f in FIGURES[predicted.task]]
    tree = {"name": "r", "ablation": "predicted", "kind": "classes", "figures": figures}
    tree |= {"metric": METRIC[predicted.task]}
    (predicted.folder / "reports").mkdir()
    path = predicted.folder / "reports" / "r.yaml"
    path.write_text(json.dumps(tree))
    with chdir(predicted.folder):
        yield load_report(path)


def written(made, store):
    files = all_files(made, build_report(made, store), store)
    for name, content in files.items():
        path = Path("out", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return files


@BOTH_IN_TIME
def test_what_is_written_is_what_the_predictions_give(made, predicted):
    files = written(made, predicted.store)
    names = {f"figures/{figure['kind']}.png" for figure in FIGURES[predicted.task]}
    assert names < files.keys()
    again = all_files(made, build_report(made, predicted.store), predicted.store)
    assert compare(Path("out"), again).differences == ()
    caption = Path("out/figures/confusion.txt")
    caption.write_text(caption.read_text().replace("n=3", "n=9"))
    [difference] = compare(Path("out"), again).differences
    assert "confusion.txt" in str(difference)


def test_the_page_has_the_numbers_of_each_figure(made, predicted):
    data = report_data(made, build_report(made, predicted.store).tables, predicted.store)
    by_kind = {figure["kind"]: figure for figure in data["figures"]}
    assert by_kind.keys() == {figure["kind"] for figure in FIGURES[predicted.task]}
    counts = by_kind["confusion"]["counts"]
    assert len(counts) == len(by_kind["confusion"]["names"]) == len(by_kind["confusion"]["down"])
    assert sum(map(sum, counts)) > 0
    assert [len(group) for group in by_kind["classes"]["points"]] == [3] * len(by_kind["classes"]["groups"])
    rows = {row["row"] for row in data["rows"]}
    assert rows == set(by_kind["classes"]["points"][0])
    if predicted.task == "detection":
        assert all(len(curve["mean"]) == 101 for curve in by_kind["precision_recall"]["curves"])


@BOTH_IN_TIME
def test_a_bundle_without_predictions_verifies_and_a_changed_result_by_class_is_found(made, predicted):
    names = write_bundle(made, Path("r.zip"), predicted.store, Path("reports/r.yaml"))
    assert not any(name.endswith((".npz", ".ckpt")) for name in names)
    assert sum(name.endswith(f"/{ANALYSIS}") for name in names) == 9
    with zipfile.ZipFile("r.zip") as archive:
        archive.extractall("unpacked")
    folder = Path("unpacked")
    assert verify_bundle(folder).problems == ()
    path = sorted(folder.glob(f"runs/*/{ANALYSIS}"))[0]
    content = json.loads(path.read_text())
    key = next(key for key in content["entries"] if METRIC[predicted.task] in content["entries"][key])
    content["entries"][key][METRIC[predicted.task]][0] = 99.5
    path.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
    with_fitting_sum(folder, path)
    problems = verify_bundle(folder).problems
    words = f"the mean of {METRIC[predicted.task]} over classes is"
    assert any(words in problem for problem in problems), problems
    assert any("table.md" in problem for problem in problems), problems


def with_fitting_sum(folder, path):
    """Make the checksums fit, as somebody would who wants to hide a change."""
    sums, name = folder / "SHA256SUMS", path.relative_to(folder).as_posix()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    lines = sums.read_text().splitlines()
    fitting = [f"{digest}  {name}" if line.endswith(f"  {name}") else line for line in lines]
    sums.write_text("\n".join(fitting) + "\n")

"""A bundle holds all that a report rests on, and its check names each number that was changed."""

import hashlib
import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from bundles import bundle, change, rewrite_sums
from tiny import TINY, TINY_REPORT, fake_outcome

from ema_lab.errors import EmaLabError
from ema_lab.reports.bundle.verify import verify_bundle
from ema_lab.store.cost_cache import CostCache
from ema_lab.store.store import RunStore

AS_PAINTED = pytest.mark.usefixtures("painted_once")
BUNDLED = {
    "SHA256SUMS",
    "bundle.json",
    "requirements.txt",
    "reproduce.sh",
    "reports/tiny.yaml",
    "ablations/tiny.yaml",
    "report/table.md",
    "report/table.tex",
    "report/table.csv",
    "report/table.html",
    "report/report.json",
    "report/index.html",
}


def test_holds_tables_figures_records_definitions_and_the_way_back(bundled):
    names = {path.relative_to(bundled).as_posix() for path in bundled.rglob("*") if path.is_file()}
    assert names >= BUNDLED
    assert {f"report/figures/differences.{kind}" for kind in ("pdf", "svg", "png", "txt")} <= names
    assert sum(name.startswith("runs/") and name.endswith("/record.json") for name in names) == 4
    assert not any(name.endswith(".ckpt") for name in names)
    facts = json.loads((bundled / "bundle.json").read_text())
    assert (facts["report"], facts["runs"], facts["device"]) == ("tiny", 4, ["cpu"])
    assert (bundled / "requirements.txt").read_text() == "torch==0\n"
    script = (bundled / "reproduce.sh").read_text()
    assert "ema-lab run ablations/tiny.yaml --store again --device cpu --threads 1\n" in script
    assert "ema-lab report reports/tiny.yaml --store again --out report --check --tables" in script


def test_equal_records_give_equal_bytes(bundled):
    first = Path("paper.zip").read_bytes()
    bundle()
    assert Path("paper.zip").read_bytes() == first


@AS_PAINTED
def test_a_changed_cell_of_a_table_is_named(bundled):
    change(bundled / "report/table.md", "92.50", "93.50")
    rewrite_sums(bundled)
    lines = verified(bundled)
    assert lines
    assert all("table.md" in line and "93.50" in line and "92.50" in line for line in lines)


def test_modules_of_ones_own_come_along(trained):
    gate = (
        "from torch import nn\nfrom parts_of_bundle.scale import SCALE\n\n\nclass Gate(nn.Identity):\n"
        "    def __init__(self, channels: int) -> None:\n        super().__init__()\n"
    )
    Path("own_gate_of_bundle.py").write_text(gate)
    Path("parts_of_bundle").mkdir()
    Path("parts_of_bundle/scale.py").write_text("SCALE = 1\n")
    Path("unrelated.py").write_text("x = 1\n")
    text = TINY.replace("{name: se, reduction: 4}", "own_gate_of_bundle:Gate")
    Path("ablations/tiny.yaml").write_text(text)
    Path("reports/tiny.yaml").write_text(TINY_REPORT)
    trained(train=lambda spec, job: fake_outcome(spec))
    bundle()
    with zipfile.ZipFile("paper.zip") as archive:
        assert archive.read("own_gate_of_bundle.py").decode() == gate
        assert archive.read("parts_of_bundle/scale.py") == b"SCALE = 1\n"
        assert "unrelated.py" not in archive.namelist()
        assert str(Path.cwd()).encode() not in b"".join(map(archive.read, archive.namelist()))
    assert not verify_bundle(Path("paper.zip")).problems


def test_holes_stay_holes(trained):
    Path("reports/tiny.yaml").write_text(TINY_REPORT)
    trained(keep=lambda spec: spec.seed == 0)
    bundle()
    assert not verify_bundle(Path("paper.zip")).problems


def verified(bundled: Path) -> list[str]:
    """Return what `verify` prints of a bundle whose checksums fit what is in it."""
    rewrite_sums(bundled)
    return list(verify_bundle(bundled).problems)


@AS_PAINTED
@pytest.mark.parametrize(
    ("name", "old", "new", "words"),
    [
        ("report/index.html", '"top1":92.0', '"top1":97.0', "metrics.top1: 97.0 is written"),
        ("report/table.html", "92.50 ±", "97.50 ±", "row 'se', column 'Top-1 (%)'"),
        ("report/figures/differences.txt", "n=2", "n=9", "in a line"),
        ("bundle.json", '"runs": 4', '"runs": 5', "bundle.json: runs: 5 is written, the records give 4"),
        ("requirements.txt", "torch==0", "torch==1", "requirements.txt: in a line: 'torch==1' is written"),
        ("reproduce.sh", "set -eu", "set -e", "reproduce.sh: in a line"),
    ],
)
def test_whatever_follows_from_the_records_is_built_again(bundled, name, old, new, words):
    change(bundled / name, old, new)
    lines = verified(bundled)
    assert lines
    assert all(name in line and words in line for line in lines)


def test_a_figure_is_painted_again(bundled):
    name, words = "report/figures/differences.svg", "is not the figure that the records give"
    assert verified(bundled) == []
    change(bundled / name, "<path ", "<path  ")
    [line] = verified(bundled)
    assert name in line
    assert words in line


def a_run(bundled: Path, top1: float) -> Path:
    """Return the folder of the run with that result."""
    records = {path: json.loads(path.read_text()) for path in sorted(bundled.glob("runs/*/record.json"))}
    [path] = [path for path, record in records.items() if record["metrics"]["top1"] == top1]
    return path.parent


@AS_PAINTED
def test_a_spec_or_a_record_in_another_runs_folder_is_found(bundled):
    one, other, third = (a_run(bundled, top1) for top1 in (92.0, 93.0, 90.0))
    shutil.copy(one / "spec.json", other / "spec.json")
    shutil.copy(one / "record.json", third / "record.json")
    lines = verified(bundled)
    assert f"runs/{other.name}/spec.json was changed: its run id is {one.name}, not {other.name}" in lines
    assert f"runs/{third.name}/record.json is the record of {one.name!r}" in lines


@AS_PAINTED
@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("record.json", b'{"environment": {"versions": "none"}', "record.json cannot be read"),
        ("record.json", b"{}", "is not a record of this version"),
        ("curve.csv", b"epoch,\xff\n", "curve.csv cannot be read"),
        ("spec.json", b"[]", "spec.json cannot be read"),
    ],
)
def test_a_damaged_file_of_a_run_is_named(bundled, name, content, words):
    (a_run(bundled, 92.0) / name).write_bytes(content)
    assert any(words in line for line in verified(bundled))


@AS_PAINTED
def test_what_breaks_the_report_is_a_line_and_no_claim_that_it_was_built(bundled):
    change(bundled / "ablations" / "tiny.yaml", "resnet20", "resnet21")
    rewrite_sums(bundled)
    result = verify_bundle(bundled)
    assert any("the report cannot be built again: " in line for line in result.problems)
    assert not any("rebuilt and compared" in line for line in result.remarks)


@AS_PAINTED
def test_what_the_checksums_do_not_list_is_refused_but_for_what_reproduce_leaves(bundled):
    for name in ("more.txt", "again/x", ".venv/x", "data/x"):
        (bundled / name).parent.mkdir(exist_ok=True)
        (bundled / name).write_text("")
    sums = (bundled / "SHA256SUMS").read_text()
    (bundled / "SHA256SUMS").write_text(f"{sums}{'0' * 64}  gone.txt\n")
    problems = verify_bundle(bundled).problems
    assert problems == ("gone.txt is missing", "more.txt is not listed in SHA256SUMS")
    with zipfile.ZipFile("paper.zip", "a") as archive:
        archive.writestr(".venv/bin/pip", "")
    problems = verify_bundle(Path("paper.zip")).problems
    assert problems == (".venv/bin/pip is not listed in SHA256SUMS",)


@AS_PAINTED
def test_a_record_is_held_against_its_protocol_and_equal_models(bundled):
    one, other = a_run(bundled, 92.0), a_run(bundled, 91.0)
    change(one / "record.json", '"chosen_epoch": 1', '"chosen_epoch": 2')
    change(other / "record.json", '"macs": 2000000', '"macs": 1000000')
    lines = verified(bundled)
    assert f"runs/{one.name}/record.json: chosen_epoch: 2 is written, last gives 1" in lines
    [costs] = [line for line in lines if "for the same model in" in line]
    assert "1000000" in costs
    assert "2000000" in costs


CURVE = "epoch,test_top1,test_loss\n1,50.0,0.75\n2,{top1},0.5\n3,{top1},0.25\n"


def with_curve(spec, job):
    outcome = fake_outcome(spec)
    (job.folder / "curve.csv").write_text(CURVE.format(top1=outcome.metrics["top1"]))
    return replace(outcome, chosen_epoch=2)


def test_a_record_is_held_against_the_row_of_its_epoch(trained):
    text = TINY.replace("epochs: 1", "epochs: 3, protocol: best-test")
    Path("ablations/tiny.yaml").write_text(text)
    trained(train=with_curve)
    bundle()
    result = verify_bundle(Path("paper.zip"))
    assert not result.problems
    assert any("which has them for 4 of 4 runs" in line for line in result.remarks)
    with zipfile.ZipFile("paper.zip") as archive:
        archive.extractall("paper")
    one, other = a_run(Path("paper"), 92.0), a_run(Path("paper"), 93.0)
    change(one / "record.json", '"top1": 92.0', '"top1": 96.0')
    change(other / "record.json", '"chosen_epoch": 2', '"chosen_epoch": 3')
    lines = verified(Path("paper"))
    path = f"runs/{one.name}/record.json"
    assert f"{path}: metrics.top1: 96.0 is written, the curve has 92.0 at epoch 2" in lines
    assert f"runs/{other.name}/record.json: chosen_epoch: 3 is written, best-test gives 2" in lines


def test_a_failed_runs_log_and_kept_latencies_come_along(trained):
    Path("reports/tiny.yaml").write_text(f"{TINY_REPORT}columns: [top1, latency]\n")

    def train(spec, job):
        (job.folder / "log.txt").write_text("what happened\n")
        if spec.seed:
            raise MemoryError("no room")
        return fake_outcome(spec)

    store = RunStore("runs")
    none, _, se, _ = map(store.spec, trained(train=train))
    measured = {"ms": 12.0, "baseline_ms": 10.0, "ratio": 1.2, "ratio_low": 1.1, "ratio_high": 1.3}
    how = {"what": "latency", "mode": "inference", "batch": 8, "rounds": 8, "device": "cpu", "threads": "1"}
    cache = CostCache(Path("runs"), {"torch": "1"})
    cache.get((se, none), how, lambda: measured)
    cache.get((se, none), {**how, "what": "layers"}, lambda: measured)
    bundle()
    with zipfile.ZipFile("paper.zip") as archive:
        names = archive.namelist()
        assert "12.00" in archive.read("report/table.md").decode()
        assert b"what happened" in archive.read("report/index.html")
    assert sum(name.startswith("runs/.costs/") for name in names) == 1
    assert sum(name.endswith("/log.txt") for name in names) == 2
    assert not verify_bundle(Path("paper.zip")).problems


def test_an_ablation_that_is_named_by_its_path_stays_where_it_is(trained):
    Path("mine").mkdir()
    shutil.copy("ablations/tiny.yaml", "mine/tiny.yaml")
    Path("reports/tiny.yaml").write_text("name: tiny\nablation: mine/tiny.yaml\n")
    trained("mine/tiny.yaml")
    bundle()
    assert not verify_bundle(Path("paper.zip")).problems
    Path("reports/tiny.yaml").write_text(f"name: tiny\nablation: {Path('mine/tiny.yaml').absolute()}\n")
    words = "not below the current folder; move the file there and name it by a relative path"
    with pytest.raises(EmaLabError, match=words):
        bundle()


TABLE = "run_id,tensor,shape,in_file,outcome\n{0},conv.weight,8x3x3x3,conv.weight,taken\n{0},bn.count,,,new\n"


def with_start(spec, job):
    """Give a run start weights as a record and `start.csv` have them."""
    outcome = fake_outcome(spec)
    (job.folder / "start.csv").write_text(TABLE.format(spec.run_id))
    counts = {"tensors_taken": 1, "tensors": 2, "values_taken": 216, "values": 217}
    start = {"sha256": spec.model.start.sha256, **counts}
    return replace(outcome, environment={**outcome.environment, "start": start})


def test_the_table_of_start_weights_comes_along_and_is_held_against_the_record(trained):
    Path("weights.pt").write_bytes(b"made up")
    sha256 = hashlib.sha256(b"made up").hexdigest()
    text = TINY.replace("placement", "start: {file: weights.pt}, placement")
    Path("ablations/tiny.yaml").write_text(text)
    Path("reports/tiny.yaml").write_text(TINY_REPORT)
    trained(train=with_start)
    rule = f"write `sha256: {sha256}` beside `file`: a bundle does not hold the weights"
    with pytest.raises(EmaLabError) as raised:
        bundle()
    assert str(raised.value) == f"report tiny: ablations/tiny.yaml: start: weights.pt: {rule}"
    assert not Path("paper.zip").exists()
    Path("ablations/tiny.yaml").write_text(text.replace("weights.pt", f"weights.pt, sha256: {sha256}"))
    bundle()
    assert not verify_bundle(Path("paper.zip")).problems
    with zipfile.ZipFile("paper.zip") as archive:
        archive.extractall("paper")
    bundled = Path("paper")
    one, other, third, fourth = (a_run(bundled, top1) for top1 in (90.0, 91.0, 92.0, 93.0))
    change(one / "start.csv", "taken", "absent")
    change(other / "start.csv", "8x3x3x3", "8x3x5x5")
    (third / "start.csv").unlink()
    shutil.copy(other / "start.csv", fourth / "start.csv")
    assert sorted(verified(bundled)) == sorted(
        [
            f"runs/{one.name}/record.json: start.tensors_taken: 1 is recorded, start.csv gives 0",
            f"runs/{other.name}/record.json: start.values_taken: 216 is recorded, start.csv gives 600",
            f"runs/{third.name}/start.csv is missing: the run starts from a file of weights",
            f"runs/{fourth.name}/start.csv is the table of start weights of {other.name!r}",
        ]
    )

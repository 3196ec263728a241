"""A bundle holds all that a report rests on, and its check names each number that was changed."""

import hashlib
import json
import shutil
import subprocess
import sys
import zipfile
from contextlib import chdir
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest
from tiny import TINY, TINY_REPORT, fake_outcome

from ema_lab.reports.bundle.reproduce import reproduce_script, requirements
from ema_lab.reports.bundle.wheel import build_wheel
from ema_lab.store.cost_cache import CostCache
from ema_lab.store.store import RunStore

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
FIGURE = "figures:\n  - {kind: forest, name: differences}\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Folder that keeps what `bundled` makes: each test gets a copy."""
    return tmp_path_factory.mktemp("bundle") / "made"


@pytest.fixture
def bundled(command, trained, made):
    """Return the unpacked bundle of the tiny report."""
    if made.exists():
        shutil.copytree(made, ".", dirs_exist_ok=True)
        return Path("paper")
    Path("reports").mkdir(exist_ok=True)
    Path("reports/tiny.yaml").write_text(TINY_REPORT + FIGURE)
    trained()
    answer = command("bundle", "tiny", "--out", "paper.zip")
    assert (answer.code, answer.out) == (0, "paper.zip\n")
    with zipfile.ZipFile("paper.zip") as archive:
        archive.extractall("paper")
    shutil.copytree(".", made)
    return Path("paper")


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def rewrite_sums(folder: Path) -> None:
    """Make the checksums fit, as somebody would who wants to hide a change."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "SHA256SUMS")
    names = [path.relative_to(folder).as_posix() for path in paths]
    lines = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    (folder / "SHA256SUMS").write_text("".join(lines))


def test_holds_tables_figures_records_definitions_and_the_way_back(bundled, command):
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


def test_what_was_not_changed_verifies_packed_and_unpacked_anywhere(bundled, command):
    packed = Path("paper.zip").absolute()
    answer = command("verify", "paper")
    assert (answer.code, answer.out) == (0, "")
    first, computed, crossed, summed = answer.err.splitlines()
    assert first == "paper: no differences"
    assert computed.startswith(
        "rebuilt and compared: the run ids from the specs; every table, the page, the figures"
    )
    assert "its curve, which has them for 0 of 4 runs" in crossed
    assert summed.startswith("checked only by SHA256SUMS, which anyone who edits a file can recompute: what")
    with chdir(packed.root):
        assert command("verify", str(packed)).code == 0


def test_equal_records_give_equal_bytes(bundled, command):
    first = Path("paper.zip").read_bytes()
    assert command("bundle", "tiny", "--out", "paper.zip").code == 0
    assert Path("paper.zip").read_bytes() == first


def test_a_changed_record_makes_it_name_the_cell(bundled, command):
    [record] = [
        path
        for path in bundled.glob("runs/*/record.json")
        if json.loads(path.read_text())["metrics"]["top1"] == 92.0
    ]
    change(record, '"top1": 92.0', '"top1": 96.0')
    rewrite_sums(bundled)
    answer = command("verify", "paper")
    assert answer.code == 1
    [line] = [
        line
        for line in answer.out.splitlines()
        if "table.csv" in line and "delta" not in line and "std" not in line
    ]
    assert "se" in line
    assert "top1" in line
    assert "92.5" in line
    assert "94.5" in line


def test_a_changed_cell_of_a_table_is_named(bundled, command):
    change(bundled / "report/table.md", "92.50", "93.50")
    rewrite_sums(bundled)
    answer = command("verify", "paper")
    assert answer.code == 1
    lines = answer.out.splitlines()
    assert lines
    assert all("table.md" in line and "93.50" in line and "92.50" in line for line in lines)


def test_a_changed_file_is_named(bundled, command):
    change(bundled / "ablations/tiny.yaml", "Two rows", "2 rows")
    (bundled / "requirements.txt").unlink()
    answer = command("verify", "paper")
    assert sorted(answer.out.splitlines()) == [
        "ablations/tiny.yaml was changed",
        "requirements.txt is missing",
    ]
    assert answer.err.startswith("paper: 2 differences\n")


def test_modules_of_ones_own_come_along(command, trained):
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
    Path("reports").mkdir(exist_ok=True)
    Path("reports/tiny.yaml").write_text(TINY_REPORT)
    trained(train=lambda spec, job: fake_outcome(spec))
    assert command("bundle", "tiny", "--out", "paper.zip").code == 0
    with zipfile.ZipFile("paper.zip") as archive:
        assert archive.read("own_gate_of_bundle.py").decode() == gate
        assert archive.read("parts_of_bundle/scale.py") == b"SCALE = 1\n"
        assert "unrelated.py" not in archive.namelist()
        assert str(Path.cwd()).encode() not in b"".join(map(archive.read, archive.namelist()))
    assert command("verify", "paper.zip").code == 0


def test_holes_stay_holes(command, trained):
    Path("reports").mkdir(exist_ok=True)
    Path("reports/tiny.yaml").write_text(TINY_REPORT)
    trained(keep=lambda spec: spec.seed == 0)
    assert command("bundle", "tiny", "--out", "paper.zip").code == 0
    assert command("verify", "paper.zip").code == 0


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["bundle", "tiny", "--out", "paper.tar"], "--out must end in .zip, got paper.tar"),
        (["bundle", "tiny", "--out", "no/such/paper.zip"], "cannot be written"),
        (["bundle", "teeny", "--out", "paper.zip"], "no report is named 'teeny'"),
        (["verify", "nothing.zip"], "nothing.zip cannot be read"),
        (["verify", "ablations"], "ablations is not a bundle"),
        (["verify", "ablations/tiny.yaml"], "cannot be read"),
    ],
)
def test_mistakes_are_one_line(command, folder, words, problem):
    Path("reports").mkdir(exist_ok=True)
    Path("reports/tiny.yaml").write_text(TINY_REPORT)
    answer = command(*words)
    assert (answer.code, answer.out) == (2, "")
    assert problem in answer.err
    assert len(answer.err.splitlines()) == 1


def test_a_file_that_would_leave_its_folder_is_refused(command, folder):
    with zipfile.ZipFile("evil.zip", "w") as archive:
        archive.writestr("../evil.txt", "")
    answer = command("verify", "evil.zip")
    assert (answer.code, answer.err) == (2, "ema-lab: evil.zip is not a bundle: it holds '../evil.txt'\n")


def verified(command, bundled: Path) -> list[str]:
    """Return what `verify` prints of a bundle whose checksums fit what is in it."""
    rewrite_sums(bundled)
    answer = command("verify", str(bundled))
    assert answer.code == int(bool(answer.out))
    return answer.out.splitlines()


@pytest.mark.parametrize(
    ("name", "old", "new", "words"),
    [
        ("report/index.html", '"top1":92.0', '"top1":97.0', "metrics.top1: 97.0 is written"),
        ("report/index.html", "92.50 ±", "97.50 ±", "row 'se', column 'Top-1 (%)'"),
        ("report/figures/differences.svg", "<path ", "<path  ", "is not the figure that the records give"),
        ("report/figures/differences.txt", "n=2", "n=9", "in a line"),
        ("bundle.json", '"runs": 4', '"runs": 5', "bundle.json: runs: 5 is written, the records give 4"),
        ("requirements.txt", "torch==0", "torch==1", "requirements.txt: in a line: 'torch==1' is written"),
        ("reproduce.sh", "set -eu", "set -e", "reproduce.sh: in a line"),
    ],
)
def test_whatever_follows_from_the_records_is_built_again(bundled, command, name, old, new, words):
    change(bundled / name, old, new)
    lines = verified(command, bundled)
    assert lines
    assert all(name in line and words in line for line in lines)


def a_run(bundled: Path, top1: float) -> Path:
    """Return the folder of the run with that result."""
    records = {path: json.loads(path.read_text()) for path in sorted(bundled.glob("runs/*/record.json"))}
    [path] = [path for path, record in records.items() if record["metrics"]["top1"] == top1]
    return path.parent


def test_a_spec_or_a_record_in_another_runs_folder_is_found(bundled, command):
    one, other, third = (a_run(bundled, top1) for top1 in (92.0, 93.0, 90.0))
    shutil.copy(one / "spec.json", other / "spec.json")
    shutil.copy(one / "record.json", third / "record.json")
    lines = verified(command, bundled)
    assert f"runs/{other.name}/spec.json was changed: its run id is {one.name}, not {other.name}" in lines
    assert f"runs/{third.name}/record.json is the record of {one.name!r}" in lines


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("record.json", b'{"environment": {"versions": "none"}', "record.json cannot be read"),
        ("record.json", b"{}", "is not a record of this version"),
        ("curve.csv", b"epoch,\xff\n", "curve.csv cannot be read"),
        ("spec.json", b"[]", "spec.json cannot be read"),
    ],
)
def test_a_damaged_file_of_a_run_is_named(bundled, command, name, content, words):
    (a_run(bundled, 92.0) / name).write_bytes(content)
    assert any(words in line for line in verified(command, bundled))


def test_what_breaks_the_report_is_a_line_and_no_claim_that_it_was_built(bundled, command):
    change(bundled / "ablations" / "tiny.yaml", "resnet20", "resnet21")
    rewrite_sums(bundled)
    answer = command("verify", "paper")
    assert answer.code == 1
    assert "the report cannot be built again: " in answer.out
    assert "rebuilt and compared" not in answer.err


def test_what_the_checksums_do_not_list_is_refused_but_for_what_reproduce_leaves(bundled, command):
    for name in ("more.txt", "again/x", ".venv/x", "data/x"):
        (bundled / name).parent.mkdir(exist_ok=True)
        (bundled / name).write_text("")
    sums = (bundled / "SHA256SUMS").read_text()
    (bundled / "SHA256SUMS").write_text(f"{sums}{'0' * 64}  gone.txt\n")
    answer = command("verify", "paper")
    assert (answer.code, answer.out.splitlines()) == (
        1,
        ["gone.txt is missing", "more.txt is not listed in SHA256SUMS"],
    )
    with zipfile.ZipFile("paper.zip", "a") as archive:
        archive.writestr(".venv/bin/pip", "")
    answer = command("verify", "paper.zip")
    assert (answer.code, answer.out) == (1, ".venv/bin/pip is not listed in SHA256SUMS\n")


def test_a_record_is_held_against_its_protocol_and_equal_models(bundled, command):
    one, other = a_run(bundled, 92.0), a_run(bundled, 91.0)
    change(one / "record.json", '"chosen_epoch": 1', '"chosen_epoch": 2')
    change(other / "record.json", '"macs": 2000000', '"macs": 1000000')
    lines = verified(command, bundled)
    assert f"runs/{one.name}/record.json: chosen_epoch: 2 is written, last gives 1" in lines
    [costs] = [line for line in lines if "for the same model in" in line]
    assert "1000000" in costs
    assert "2000000" in costs


CURVE = "epoch,test_top1,test_loss\n1,50.0,0.75\n2,{top1},0.5\n3,{top1},0.25\n"


def with_curve(spec, job):
    outcome = fake_outcome(spec)
    (job.folder / "curve.csv").write_text(CURVE.format(top1=outcome.metrics["top1"]))
    return replace(outcome, chosen_epoch=2)


def test_a_record_is_held_against_the_row_of_its_epoch(command, trained):
    text = TINY.replace("epochs: 1", "epochs: 3, protocol: best-test")
    Path("ablations/tiny.yaml").write_text(text)
    trained(train=with_curve)
    command("bundle", "tiny", "--out", "paper.zip")
    answer = command("verify", "paper.zip")
    assert (answer.code, answer.out) == (0, "")
    assert "which has them for 4 of 4 runs" in answer.err
    with zipfile.ZipFile("paper.zip") as archive:
        archive.extractall("paper")
    one, other = a_run(Path("paper"), 92.0), a_run(Path("paper"), 93.0)
    change(one / "record.json", '"top1": 92.0', '"top1": 96.0')
    change(other / "record.json", '"chosen_epoch": 2', '"chosen_epoch": 3')
    lines = verified(command, Path("paper"))
    path = f"runs/{one.name}/record.json"
    assert f"{path}: metrics.top1: 96.0 is written, the curve has 92.0 at epoch 2" in lines
    assert f"runs/{other.name}/record.json: chosen_epoch: 3 is written, best-test gives 2" in lines


def test_a_failed_runs_log_and_kept_latencies_come_along(command, trained):
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
    assert command("bundle", "tiny", "--out", "paper.zip").code == 0
    with zipfile.ZipFile("paper.zip") as archive:
        names = archive.namelist()
        assert "12.00" in archive.read("report/table.md").decode()
        assert b"what happened" in archive.read("report/index.html")
    assert sum(name.startswith("runs/.costs/") for name in names) == 1
    assert sum(name.endswith("/log.txt") for name in names) == 2
    answer = command("verify", "paper.zip")
    assert (answer.code, answer.out) == (0, "")


def test_an_ablation_that_is_named_by_its_path_stays_where_it_is(command, trained):
    Path("mine").mkdir()
    shutil.copy("ablations/tiny.yaml", "mine/tiny.yaml")
    Path("reports/tiny.yaml").write_text("name: tiny\nablation: mine/tiny.yaml\n")
    trained("mine/tiny.yaml")
    assert command("bundle", "tiny", "--out", "paper.zip").code == 0
    assert command("verify", "paper.zip").code == 0
    Path("reports/tiny.yaml").write_text(f"name: tiny\nablation: {Path('mine/tiny.yaml').absolute()}\n")
    answer = command("bundle", "tiny", "--out", "paper.zip")
    assert answer.code == 2
    assert "not below the current folder; move the file there and name it by a relative path" in answer.err


class TestReproduce:
    FACTS = {
        "report": "r",
        "ema_lab": "1.0",
        "versions": [{"python": "3.11.2", "ema-lab": "1.0", "torch": "2.4.0+cpu"}],
        "device": ["cpu: a\nprocessor"],
        "instruction_set": ["AVX2"],
        "precision": ["fp32"],
        "num_threads": [2],
        "commit": ["0123456789abcdef"],
    }

    def test_pins_are_versions_that_an_index_has(self):
        assert requirements(self.FACTS) == "torch==2.4.0\n"

    def test_says_where_the_runs_were_trained_and_gives_them_as_many_threads(self):
        script = reproduce_script(self.FACTS, ["ablations/a b.yaml"])
        machine = "# They were trained on: Python: 3.11.2; device: cpu: a processor; instruction set: AVX2; "
        assert f"{machine}threads of torch: 2; commit: 0123456789ab\n" in script
        assert ".venv/bin/ema-lab run 'ablations/a b.yaml' --store again --device cpu --threads 2\n" in script

    @pytest.mark.parametrize(
        ("change", "run"),
        [
            ({"device": ["cuda: x"]}, "run a.yaml --store again --device cuda\n"),
            ({"device": ["cuda: x", "cpu: y"]}, "run a.yaml --store again\n"),
            ({"num_threads": [1, 2]}, "run a.yaml --store again --device cpu\n"),
        ],
    )
    def test_asks_for_threads_only_where_they_are_one_number_and_decide(self, change, run):
        script = reproduce_script({**self.FACTS, **change}, ["a.yaml"])
        assert run in script
        assert "--threads" not in script


class TestWheel:
    def test_holds_the_package_with_its_definitions_and_is_the_same_twice(self, bundled, tmp_path):
        name = f"wheels/ema_lab-{version('ema-lab')}-py3-none-any.whl"
        assert (bundled / name).read_bytes() == build_wheel()[1]
        with zipfile.ZipFile(bundled / name) as wheel:
            names = wheel.namelist()
            record = wheel.read(f"ema_lab-{version('ema-lab')}.dist-info/RECORD").decode()
        assert {"ema_lab/cli/main.py", "ema_lab/bundled/ablations/quickstart.yaml"} <= set(names)
        assert {
            "ema_lab/reports/page/page.js",
            "ema_lab/bundled/reports/published/ema_icassp2023.yaml",
        } <= set(names)
        assert not any("__pycache__" in name for name in names)
        assert sorted(line.partition(",")[0] for line in record.splitlines()) == sorted(names)

    def test_pip_installs_it_and_it_runs_without_the_checkout(self, bundled, tmp_path):
        [wheel] = (bundled / "wheels").glob("*.whl")
        target = tmp_path / "site"
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target"]
        subprocess.run([*pip, str(target), str(wheel.absolute())], check=True, capture_output=True)
        program = (
            f"import sys; sys.path.insert(0, {str(target)!r})\n"
            "import ema_lab; from ema_lab.cli.main import main\n"
            f"assert ema_lab.__file__.startswith({str(target)!r})\n"
            "main(['show', 'quickstart'])"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert (target / "bin" / "ema-lab").is_file()

    def test_another_package_is_reported_and_is_no_difference(self, bundled, command):
        [path] = (bundled / "wheels").glob("*.whl")
        path.write_bytes(b"no wheel")
        rewrite_sums(bundled)
        answer = command("verify", "paper")
        assert answer.code == 0
        assert f"wheels/{path.name}: not compared: the wheel holds another version of ema-lab" in answer.err


TABLE = "run_id,tensor,shape,in_file,outcome\n{0},conv.weight,8x3x3x3,conv.weight,taken\n{0},bn.count,,,new\n"


def with_start(spec, job):
    """Give a run start weights as a record and `start.csv` have them."""
    outcome = fake_outcome(spec)
    (job.folder / "start.csv").write_text(TABLE.format(spec.run_id))
    counts = {"tensors_taken": 1, "tensors": 2, "values_taken": 216, "values": 217}
    start = {"sha256": spec.model.start.sha256, **counts}
    return replace(outcome, environment={**outcome.environment, "start": start})


def test_the_table_of_start_weights_comes_along_and_is_held_against_the_record(command, trained):
    Path("weights.pt").write_bytes(b"made up")
    sha256 = hashlib.sha256(b"made up").hexdigest()
    text = TINY.replace("placement", "start: {file: weights.pt}, placement")
    Path("ablations/tiny.yaml").write_text(text)
    Path("reports/tiny.yaml").write_text(TINY_REPORT)
    trained(train=with_start)
    answer = command("bundle", "tiny", "--out", "paper.zip")
    assert (answer.code, answer.out, Path("paper.zip").exists()) == (2, "", False)
    rule = f"write `sha256: {sha256}` beside `file`: a bundle does not hold the weights"
    assert answer.err == f"ema-lab: report tiny: ablations/tiny.yaml: start: weights.pt: {rule}\n"
    Path("ablations/tiny.yaml").write_text(text.replace("weights.pt", f"weights.pt, sha256: {sha256}"))
    assert command("bundle", "tiny", "--out", "paper.zip").code == 0
    answer = command("verify", "paper.zip")
    assert (answer.code, answer.out) == (0, "")
    with zipfile.ZipFile("paper.zip") as archive:
        archive.extractall("paper")
    bundled = Path("paper")
    one, other, third, fourth = (a_run(bundled, top1) for top1 in (90.0, 91.0, 92.0, 93.0))
    change(one / "start.csv", "taken", "absent")
    change(other / "start.csv", "8x3x3x3", "8x3x5x5")
    (third / "start.csv").unlink()
    shutil.copy(other / "start.csv", fourth / "start.csv")
    assert sorted(verified(command, bundled)) == sorted(
        [
            f"runs/{one.name}/record.json: start.tensors_taken: 1 is recorded, start.csv gives 0",
            f"runs/{other.name}/record.json: start.values_taken: 216 is recorded, start.csv gives 600",
            f"runs/{third.name}/start.csv is missing: the run starts from a file of weights",
            f"runs/{fourth.name}/start.csv is the table of start weights of {other.name!r}",
        ]
    )

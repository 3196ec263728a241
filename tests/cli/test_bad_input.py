"""A wrong request ends with exit code 2, a line per problem that says what would be right, and no trace."""

import ast
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import torch
from tiny import TINY, TINY_REPORT

import ema_lab.cli
from ema_lab.errors import SpecError

ABLATION = Path("ablations/tiny.yaml")
REPORT = Path("reports/tiny.yaml")


def edited(path: Path, text: str, old: str, new: str) -> None:
    assert old in text
    path.write_text(text.replace(old, new))


def assert_refused(answer, fragments, *, before, after, problems=1):
    """The contract of every wrong request."""
    said = [line for line in answer.err.splitlines() if not line.startswith("tiny: ")]
    assert answer.code == 2
    assert answer.out == ""
    assert len(said) == problems
    assert all(line.startswith("ema-lab: ") for line in said)
    assert "Traceback" not in answer.err
    for fragment in fragments:
        assert fragment in answer.err
    assert after == before


DEFINITIONS = {
    "unknown attention": ("name: se,", "name: sea,", ["tiny.yaml:11", "'sea'", "did you mean 'se'?"]),
    "unknown option": ("reduction: 4", "reductio: 4", ["'reductio'", "did you mean 'reduction'?"]),
    "option of a wrong type": ("reduction: 4", "reduction: four", ["tiny.yaml:11", "whole number"]),
    "unknown backbone": ("resnet20", "resnet21", ["tiny.yaml:4", "known: alexnet"]),
    "unknown data set": ("synthetic", "synthetik", ["tiny.yaml:5", "did you mean 'synthetic'?"]),
    "unknown key": ("baseline", "basline", ["tiny.yaml:8", "did you mean 'baseline'?"]),
    "unknown key of a recipe": ("epochs: 1", "epoch: 1, epochs: 1", ["recipe.epoch", "'epochs'"]),
    "missing key": ("epochs: 1, ", "", ["recipe.epochs: is missing"]),
    "unknown recipe": ("{epochs: 1, ", "{use: digits-quik, epochs: 1, ", ["'digits-quick'"]),
    "unknown optimizer": ("{name: sgd", "{name: sdg", ["tiny.yaml:6", "did you mean 'sgd'?"]),
    "wrong type": ("epochs: 1", "epochs: two", ["tiny.yaml:6", "recipe.epochs", "whole number", "'two'"]),
    "true for a number": ("epochs: 1", "epochs: true", ["recipe.epochs", "whole number"]),
    "null attention": (
        "model.attention: none",
        "model.attention: null",
        ["tiny.yaml:10", "must name one of"],
    ),
    "YAML syntax": ("[0, 1]", "[0, 1", ["tiny.yaml:8", "is not YAML"]),
    "no mapping": (TINY, "- a\n- b\n", ["tiny.yaml:1", "must be a mapping"]),
    "empty file": (TINY, "", ["tiny.yaml:1", "must be a mapping"]),
    "duplicate key": ("seeds:", "name: tiny\nseeds:", ["tiny.yaml:7", "'name' appears twice"]),
    "a seed twice": ("[0, 1]", "[0, 0]", ["tiny.yaml:7", "a seed is listed twice", "[0, 0]"]),
    "two forms at once": (
        "seeds:",
        "vary: {recipe.epochs: [2]}\nseeds:",
        ["exactly one of variants, vary, without", "got variants and vary"],
    ),
    "unknown baseline": ("baseline: none", "baseline: base", ["must be one of the variants none, se"]),
    "skip that matches nothing": (
        "seeds:",
        "skip: [{when: {variant: sea}, reason: slow}]\nseeds:",
        ["tiny.yaml:7", "matches no cell", "sea"],
    ),
    "name that is not the file's": ("name: tiny", "name: teeny", ["tiny.yaml:1", "must equal", "'tiny'"]),
    "best-val without a split": (
        "epochs: 1,",
        "epochs: 1, protocol: best-val,",
        ["set data.val_images"],
    ),
}


def test_a_wrong_ablation_is_refused_with_its_line(command, tree):
    for old, new, fragments in DEFINITIONS.values():
        edited(ABLATION, TINY, old, new)
        before = tree()
        assert_refused(command("plan", "tiny"), fragments, before=before, after=tree())


@pytest.mark.parametrize("case", ["unknown key", "unknown option", "YAML syntax"])
def test_every_command_refuses_a_wrong_ablation(command, tree, case):
    old, new, fragments = DEFINITIONS[case]
    edited(ABLATION, TINY, old, new)
    before = tree()
    for name in ("run", "status", "cost", "report"):
        assert_refused(command(name, "tiny"), fragments, before=before, after=tree())


def test_every_problem_of_a_file_is_reported_at_once(command, tree):
    edited(ABLATION, TINY, "epochs: 1, batch_size: 16", "epochs: 0, batch_size: 0")
    before = tree()
    fragments = ["recipe.epochs", "recipe.batch_size"]
    assert_refused(command("plan", "tiny"), fragments, before=before, after=tree(), problems=2)


MODELS = {
    "groups that do not divide": (
        "{name: se, reduction: 4}",
        "{name: ema, groups: 7}",
        ["se: ema after layer1.0.bn2 (16 channels)", "groups=7"],
    ),
    "a pattern that matches nothing": (
        "block_end",
        "blok_end",
        ["'blok_end' matches no submodule", "places: after_conv1, after_conv2, block_end", "layer1"],
    ),
    "a stage that is not there": (
        "after: block_end",
        "after: block_end, stages: [4]",
        ["no match in stage [4]", "stages there: [1, 2, 3]"],
    ),
}


@pytest.mark.parametrize("case", MODELS)
def test_a_model_that_does_not_fit_is_refused_before_the_first_epoch(command, tree, case):
    old, new, fragments = MODELS[case]
    edited(ABLATION, TINY, old, new)
    before = tree()
    for words in (("plan", "--check"), ("run",), ("run", "--smoke"), ("cost",)):
        answer = command(words[0], "tiny", *words[1:])
        assert_refused(answer, ["ablations/tiny.yaml", *fragments], before=before, after=tree())


def test_a_backbone_with_other_outputs_than_classes_is_refused(command, tree):
    net = "from torch import nn\n\n\ndef net(classes, channels):\n    "
    Path("wrong_outputs_of_test.py").write_text(
        net
        + "return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes + 1))\n"
    )
    old = "backbone: resnet20, placement: {after: block_end}"
    text = TINY.replace(old, "backbone: 'wrong_outputs_of_test:net'")
    Path("ablations/tiny.yaml").write_text(text.partition("  se:")[0])
    before = tree()
    rule = "must give one score per class, (2, 10) for 2 images, got (2, 11)"
    for words in (("plan", "--check"), ("run",)):
        assert_refused(command(words[0], "tiny", *words[1:]), [rule], before=before, after=tree())


def test_a_detector_is_not_trained(command, tree):
    edited(ABLATION, TINY, "backbone: resnet20", "backbone: yolov5s")
    before = tree()
    rule = "yolov5s is a detector: it is here to be counted (ema-lab cost), not to be trained"
    for words in (("plan", "--check"), ("run",), ("run", "--smoke")):
        answer = command(words[0], "tiny", *words[1:])
        assert_refused(answer, ["ablations/tiny.yaml: none, se: ", rule], before=before, after=tree())


REPORTS = {
    "no known column": (
        "ablation: tiny",
        "ablation: tiny\ncolumns: [top2]",
        ["reports/tiny.yaml:4", "did you mean 'top5'"],
    ),
    "unknown key": ("title", "titel", ["reports/tiny.yaml:2", "did you mean 'title'?"]),
    "unknown ablation": ("ablation: tiny", "ablation: teeny", ["'teeny'", "did you mean 'tiny'?"]),
    "a name for no row": ("title", "names: {sea: SE}\ntitle", ["names", "'sea'", "did you mean 'se'?"]),
    "name that is not the file's": ("name: tiny", "name: teeny", ["must equal", "'tiny'"]),
}


def test_a_wrong_report_is_refused(command, tree):
    for old, new, fragments in REPORTS.values():
        edited(REPORT, TINY_REPORT, old, new)
        before = tree()
        answer = command("report", "tiny", "--out", "out")
        assert_refused(answer, fragments, before=before, after=tree())


def test_one_wrong_column_is_left_out_by_name(command):
    """The other columns and the figures are written, and the exit code says that something is missing."""
    edited(REPORT, TINY_REPORT, "ablation: tiny", "ablation: tiny\ncolumns: [top1, top2, n]")
    answer = command("report", "tiny", "--out", "out")
    assert answer.code == 1
    assert "reports/tiny.yaml:4: columns.1: no column is named 'top2'; did you mean 'top5'?" in answer.err
    header = Path("out/table.csv").read_text().splitlines()[0]
    assert "top1" in header
    assert "top2" not in header
    assert Path("out/index.html").exists()


def test_a_difference_without_a_baseline_is_refused(command, tree):
    edited(ABLATION, TINY, "baseline: none\n", "")
    before = tree()
    fragments = ["the column 'delta' needs a baseline", "the ablation tiny names none"]
    assert_refused(command("report", "tiny", "--out", "out"), fragments, before=before, after=tree())


ARGUMENTS = {
    "frobnicate": ["no command is named 'frobnicate'", "known: new, list"],
    "lst": ["did you mean 'list'?"],
    "--frob": ["No such option: --frob", "see ema-lab --help"],
    "plan": ["Missing argument", "see ema-lab plan --help"],
    "plan tiny extra": ["extra", "see ema-lab plan --help"],
    "plan tiny --frob": ["No such option: --frob", "see ema-lab plan --help"],
    "plan tiny --store": ["'--store' requires an argument"],
    "plan tiny --seeds 9": ["tiny has 2 seeds", "9"],
    "plan tiny --seeds 0": ["tiny has 2 seeds, got --seeds 0"],
    "plan tiny --seeds x": ["--seeds takes a number of seeds, such as 3"],
    "plan tiny --only variant=sea": ["no cell of tiny has variant=sea", "variants: none, se"],
    "plan tiny --only variant": ["--only takes KEY=VALUE, such as variant=ema"],
    "plan tiny --only seed=[": ["no cell of tiny has seed=["],
    "plan tiny --only seed=7": ["no cell of tiny has seed=7", "seeds: 0, 1"],
    "plan teeny": ["no ablation is named 'teeny'", "did you mean 'tiny'?", "quickstart"],
    "plan ablations/teeny.yaml": ["no such file", "tiny.yaml"],
    "report teeny": ["no report or ablation is named 'teeny'", "did you mean 'tiny'?"],
    "report tiny --out ablations/tiny.yaml": ["--out must be a folder", "is a file"],
    "schema --out ablations/tiny.yaml": ["--out must be a folder", "is a file"],
    "schema sweeps": ["no schema is named 'sweeps'", "ablation, recipe, report, sweep, published, run"],
    "list modules": ["no kind is named 'modules'", "known: attention"],
    "show modules se": ["no kind is named 'modules'", "known: attention"],
    "show attention sea": ["no attention is named 'sea'", "did you mean 'se'?"],
    "show backbone resnet21": ["no backbone is named 'resnet21'", "did you mean"],
    "show dataset cifar11": ["no data set is named 'cifar11'", "did you mean 'cifar1"],
    "show recipe digits": ["no recipe is named 'digits'", "digits-quick"],
    "show quickstat": ["no thing is named 'quickstat'", "did you mean 'quickstart'?"],
    "show no_such_module:Gate": ["no Python module 'no_such_module'"],
    "show run abcd": ["no run is named 'abcd'", "store runs"],
    "diff abcd abce": ["no run is named 'abcd'", "store runs"],
    "eval abcd": ["no run is named 'abcd'", "store runs"],
    "new search x": ["no kind of file is named 'search'", "ablation, attention"],
    "new ablation tiny": ["ablations/tiny.yaml exists already", "nothing was written"],
    "new ablation ../x": ["is no name for an ablation file", "'my-study' is"],
    "new attention my-gate": ["is no name for an attention file", "'my_gate' is"],
    "run tiny --workers 0": ["--workers must be 1 or more"],
    "run tiny --device tpu": ["must be auto, cpu or cuda", "'tpu'"],
    "run tiny --track comet": ["no tracker is named 'comet'", "wandb", "mlflow"],
    "plan tiny --store ablations/tiny.yaml": ["the store must be a folder", "is a file"],
    "status tiny --store ablations/tiny.yaml": ["the store must be a folder", "is a file"],
    "run tiny --store ablations/tiny.yaml": ["the store must be a folder", "is a file"],
    "report tiny --store ablations/tiny.yaml": ["the store must be a folder", "is a file"],
}


def test_a_wrong_argument_is_refused(command, tree):
    before = tree()
    for words, fragments in ARGUMENTS.items():
        assert_refused(command(*words.split()), fragments, before=before, after=tree())


def test_cuda_without_a_device_is_refused(command, tree, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    before = tree()
    answer = command("run", "tiny", "--device", "cuda")
    assert_refused(answer, ["no CUDA device", "use cpu or auto"], before=before, after=tree())


def test_a_data_set_that_cannot_be_had_is_refused(command, tree, folder, monkeypatch):
    def offline(*_args: object, **_kwargs: object) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", offline)
    data = "{name: synthetic, train_images: 32, test_images: 16, image_size: 8}"
    edited(ABLATION, TINY, data, "{name: cifar100}")
    before = tree()
    answer = command("run", "tiny", "--data", "images")
    left = {name for name in tree() if name.startswith("images")}
    after = {name: value for name, value in tree().items() if name not in left}
    fragments = ["cifar100 is not in images", "no network", "copy cifar-100-python.tar.gz"]
    assert_refused(answer, fragments, before=before, after=after)
    assert left <= {"images", "images/.cifar100.lock"}  # no half of a file


@pytest.mark.parametrize(
    ("words", "code"), [("plan tiny", 0), ("status tiny", 0), ("run tiny", 1), ("report tiny --out out", 0)]
)
def test_a_record_of_another_version_is_a_named_hole_and_stays(command, trained, words, code):
    run_id = trained()[0]
    record = Path("runs", run_id, "record.json")
    record.write_text('{"format": 99}')
    answer = command(*words.split())
    assert answer.code == code
    assert f"runs/{run_id}/record.json is not a record of this version: format" in answer.out + answer.err
    assert record.read_text() == '{"format": 99}'


def test_a_changed_spec_is_named(command, trained, tree):
    run_id = trained()[0]
    spec = Path("runs", run_id, "spec.json")
    edited(spec, spec.read_text(), '"seed": 0', '"seed": 5')
    before = tree()
    answer = command("show", "run", run_id)
    assert (answer.code, "spec.json was changed" in answer.out) == (0, True), answer
    assert tree() == before


def test_a_run_that_is_not_done_cannot_be_evaluated(command, trained, tree):
    def fail(spec: object, job: object) -> None:
        raise RuntimeError("no")

    run_id = trained(train=fail)[0]
    before = tree()
    fragments = [f"the run {run_id} is pending", "no model to evaluate"]
    assert_refused(command("eval", run_id), fragments, before=before, after=tree())


def test_a_checkpoint_that_is_gone_is_named(command, trained, tree):
    run_id = trained()[0]
    before = tree()
    assert_refused(command("eval", run_id), [f"{run_id}/last.ckpt is not there"], before=before, after=tree())


def test_an_ambiguous_run_id_lists_the_runs(command, trained, tree):
    run_ids = trained()
    before = tree()
    assert_refused(command("show", "run", ""), run_ids, before=before, after=tree())


@pytest.mark.parametrize("arguments", [["plan", "x" * 5000], ["status", "tiny", "--store", "x" * 5000]])
def test_a_name_too_long_for_a_file_is_one_line(command, arguments):
    answer = command(*arguments)
    assert (answer.code, answer.out) == (2, "")
    [line] = answer.err.splitlines()
    assert line.endswith("xx' is too long for a file name")
    assert len(line) < 300


SCENES = """\
name: tiny
base:
  model: {backbone: yolov5n}
  data: {name: yolo, file: mine.yaml, classes: 2, train_images: 2, test_images: 2}
  recipe: {epochs: 1, batch_size: 2, optimizer: {name: sgd, lr: 0.01}, detection: {anchors: ANCHORS}}
seeds: [0]
baseline: none
variants: {none: {}}
"""


@pytest.mark.parametrize(
    ("anchors", "words"),
    [
        ("fited", ["tiny.yaml:5: recipe.detection.anchors: must be fitted, published, a file", "'fited'"]),
        ("published", ["expected a YOLO data set's data.yaml"]),
    ],
)
def test_anchors_and_scenes_that_cannot_be_used_are_one_line(command, tree, anchors, words):
    ABLATION.write_text(SCENES.replace("ANCHORS", anchors))
    before = tree()
    answer = command("run", "tiny", "--data", "data", "--device", "cpu", "--workers", "1")
    assert_refused(answer, words, before=before, after=tree())


@pytest.mark.parametrize(
    "words",
    [
        ["plan", "tiny", "--only", "seed=0x" + "f" * 5000],
        ["plan", "tiny", "--only", "y" * 5000 + "=1"],
        ["plan", "tiny", "--only", "variant=" + "a " * 2500],
        ["plan", "tiny", "--only", "z" * 5000],
        ["plan", "tiny", "--budget", "w" * 5000],
        ["plan", "tiny", "--" + "o" * 5000],
        ["n" * 5000],
        ["show", "n" * 5000],
        ["show", "attention", "n" * 5000],
        ["list", "n" * 5000],
        ["run", "tiny", "--device", "d" * 5000],
        ["sweep", "quick_search", "--objective", "t" * 5000],
        ["retry", "tiny", "--signature", "t" * 5000],
    ],
    ids=lambda words: " ".join(word[:14] for word in words),
)
def test_a_long_value_is_not_repeated_in_full(command, words):
    answer = command(*words)
    assert (answer.code, answer.out) == (2, "")
    assert max(map(len, answer.err.splitlines())) < 1500
    assert "characters ...]" in answer.err


def test_every_number_of_an_option_has_a_limit():
    for path in sorted(Path(ema_lab.cli.__file__).parent.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            keys = {keyword.arg: keyword.value for keyword in getattr(node, "keywords", ())}
            if "min" in keys and isinstance(keys["min"], ast.Constant) and isinstance(keys["min"].value, int):
                assert "max" in keys, f"{path.name}:{node.lineno}"


@pytest.mark.parametrize(
    "words",
    [
        *(["plan", "tiny", option, "1" + "0" * 30] for option in ("--threads", "--workers", "--seeds")),
        *(["run", "tiny", option, "1" + "0" * 30] for option in ("--threads", "--gpu-slots", "--workers")),
    ],
)
def test_a_huge_number_is_refused(command, words, tree):
    before = tree()
    answer = command(*words)
    assert (answer.code, answer.out, len(answer.err.splitlines())) == (2, "", 1)
    assert tree() == before


def test_a_huge_number_is_refused_from_python_too(folder):
    with pytest.raises(SpecError, match="threads must be from 1 to 4,096, got 1000"):
        ema_lab.plan("tiny", threads=10**30)

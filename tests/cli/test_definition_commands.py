"""The commands list, show, new and schema, and every --help."""

import importlib
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from tiny import TINY

from ema_lab.cli.main import app
from ema_lab.data.load import load_splits
from ema_lab.registry.catalogue import ATTENTIONS, BACKBONES, DATASETS
from ema_lab.specs.dataset import dataset_facts
from ema_lab.specs.definition import definitions
from ema_lab.specs.document import read_document
from ema_lab.specs.figure import FIGURE_KINDS
from ema_lab.specs.run import DataSpec
from ema_lab.workflow.define.template import TEMPLATES
from ema_lab.workflow.define.template_help import HELP

CHEAP = {"list", "new", "schema", "status"}  # commands whose examples need no runs and no torch
COMMANDS = sorted(typer.main.get_command(app).commands)


def test_help_says_what_a_command_does_with_an_example(command):
    for name in COMMANDS:
        answer = command(name, "--help")
        assert (answer.code, answer.err) == (0, "")
        assert f"Usage: ema-lab {name}" in answer.out
        assert "Example" in answer.out
        assert f"ema-lab {name} " in answer.out.partition("Example")[2]


def test_the_version_is_the_installed_one(command):
    assert command("--version").out == f"ema-lab {version('ema-lab')}\n"


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_without_a_command_the_commands_are_shown(command, words):
    answer = command(*words)
    assert (answer.code, answer.err) == (0, "")
    assert all(f"  {name} " in answer.out for name in COMMANDS if name != "trial")
    assert "ema-lab run quickstart" in answer.out


def nested() -> dict[str, Any]:
    """Return every command by its words, those of groups too."""
    commands = dict(typer.main.get_command(app).commands)
    for group in ("store", "sweep"):
        commands |= {f"{group} {name}": command for name, command in commands[group].commands.items()}
    return commands


def examples() -> Iterator[tuple[str, list[str]]]:
    """Yield each example in a help text: the command, and all words after `ema-lab`."""
    for name, command in nested().items():
        text = re.sub(r"\n(?=\S)", " ", (command.help or "").partition("Example")[2].partition("\n\nX is")[0])
        for line in re.findall(r"ema-lab (.+?)(?=;|\n|$|\)| {2,})", text):
            yield name, shlex.split(line)


@pytest.mark.parametrize(
    ("name", "words"), list(examples()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_example_is_a_valid_command(name, words):
    commands = nested()
    two = " ".join(words[:2])
    found = two if two in commands else words[0]
    if found == "sweep":
        found, words = "sweep run", ["sweep", *words]
    commands[found].make_context(found, words[len(found.split()) :])
    assert found.startswith(name) or (name, found) == ("sweep", "dashboard")


@pytest.mark.parametrize(
    "words", [words for _, words in examples() if words[0] in CHEAP and "--watch" not in words], ids=" ".join
)
def test_an_example_that_needs_no_runs_does_what_it_says(command, words):
    assert command(*words).code == 0


def test_the_installed_command_exits_with_the_code(folder):
    ema_lab = Path(sys.executable).with_name("ema-lab")
    done = subprocess.run([ema_lab, "frobnicate"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("ema-lab: no command is named 'frobnicate'")


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("attentions", list(ATTENTIONS)),
        ("backbone", list(BACKBONES)),
        ("datasets", list(DATASETS)),
        ("ablations", ["quickstart", "tiny"]),
        ("recipes", ["cifar-200", "digits-quick"]),
        ("report", ["quickstart", "tiny"]),
        ("published", ["ema_icassp2023"]),
    ],
)
def test_every_kind_can_be_listed_with_what_each_is(command, kind, names):
    answer = command("list", kind, "--json")
    rows = json.loads(answer.out)
    assert (answer.code, answer.err) == (0, "")
    assert set(names) <= {row["name"] for row in rows}
    assert {row["kind"] for row in rows} == {kind.removesuffix("s")}
    assert all(row["about"] for row in rows)


def test_everything_is_listed_by_default(command):
    lines = command("list").out.splitlines()
    assert lines[0].split() == ["kind", "name", "about"]
    assert {line.split()[0] for line in lines[1:]} == {
        "attention",
        "backbone",
        "dataset",
        "detector",
        "ablation",
        "recipe",
        "report",
        "published",
        "sweep",
    }


def test_a_definition_that_cannot_be_read_is_listed_as_such(command):
    Path("ablations/broken.yaml").write_text("[")
    rows = json.loads(command("list", "ablations", "--json").out)
    assert {row["name"]: row["about"] for row in rows}["broken"].startswith("cannot be read: ")


ODD = ["2024-01-01", "2024-13-45", "5", "yes", "true", "[a]", "=", "null", "!!timestamp foo", '"\\e[2J"']


def test_odd_files_are_listed_and_hide_no_other(command):
    folders = ["ablations", "ablations/recipes", "sweeps", "reports", "reports/published"]
    for folder in map(Path, folders):
        folder.mkdir(parents=True, exist_ok=True)
        for number, value in enumerate(ODD):
            (folder / f"odd{number}.yaml").write_text(f"name: odd{number}\ndescription: {value}\n")
    answer = command("list", "--json")
    about = {(row["kind"], row["name"]): row["about"] for row in json.loads(answer.out)}
    assert answer.code == 0
    kinds = [folder.rpartition("/")[2].removesuffix("s") for folder in folders]
    odd = {(kind, f"odd{number}") for kind in kinds for number in range(len(ODD))}
    assert about.keys() >= odd | {("ablation", "tiny"), ("report", "tiny"), ("ablation", "quickstart")}
    assert [key for key, text in about.items() if "\x1b" in text] == []


def test_runs_are_listed_with_their_state(command, trained):
    run_ids = trained()
    rows = json.loads(command("list", "runs", "--json").out)
    assert sorted(row["run_id"] for row in rows) == sorted(run_ids)
    assert {(row["ablation"], row["row"], row["seed"], row["status"], row["metric"]) for row in rows} == {
        ("tiny", name, seed, "done", "top1") for name in ("none", "se") for seed in (0, 1)
    }


def test_each_kind_of_thing_can_be_shown(command):
    for words, fragments in (
        ("attention ema", ["arXiv:2305.13563", "Options:", "groups: int (default 32)"]),
        ("ema", ["arXiv:2305.13563"]),
        ("attention none", ["No options."]),
        ("backbone resnet20", ["arXiv:1512.03385"]),
        ("backbone resnet50", ["stem:", "'imagenet'"]),
        ("dataset digits", ["10 classes, 1,437 training and 360 test images, 1 x 8 x 8"]),
        ("dataset synthetic", ["image_size: int | list[int] (default 32)"]),
        ("ablation tiny", ["reduction: 4"]),
        ("tiny", ["reduction: 4"]),
        ("ablations/tiny.yaml", ["reduction: 4"]),
        ("recipe cifar-200", ["milestones: [60, 120, 160]"]),
        ("cifar-200", ["milestones: [60, 120, 160]"]),
        ("report quickstart", ["ablation: quickstart"]),
        ("ema_icassp2023", ["name: ema_icassp2023"]),
        ("report tiny", ["title: Tiny table"]),
    ):
        answer = command("show", *words.split())
        other = "tiny is also a report: ema-lab show report tiny\n" if words == "tiny" else ""
        assert (answer.code, answer.err) == (0, other)
        assert [fragment for fragment in fragments if fragment not in answer.out] == []


@pytest.mark.parametrize("kind", [("run",), ()])
def test_a_run_is_shown_by_the_beginning_of_its_id(command, trained, kind):
    run_id = trained()[0]
    shown = json.loads(command("show", *kind, run_id[:8]).out)
    assert shown["run_id"] == run_id
    assert shown["state"] == "done"
    assert shown["folder"] == f"runs/{run_id}"
    assert shown["spec"]["model"]["backbone"] == "resnet20"
    assert [attempt["outcome"] for attempt in shown["attempts"]] == ["done"]
    assert shown["record"]["metrics"] == {"top1": 90.0, "loss": 0.5}


def test_a_new_ablation_can_be_planned_as_it_is(command):
    written = command("new", "ablation", "my-study")
    assert (written.code, written.out) == (0, "ablations/my-study.yaml\n")
    assert "ema-lab plan ablations/my-study.yaml" in written.err
    planned = command("plan", "my-study", "--check")
    assert planned.code == 0
    assert "my-study: 12 cells, 12 distinct runs: 12 pending" in planned.err


def test_a_new_recipe_can_be_named_in_an_ablation_at_once(command):
    written = command("new", "recipe", "mine")
    assert (written.code, written.out) == (0, "ablations/recipes/mine.yaml\n")
    assert "recipe: {use: mine}" in written.err
    path = Path("ablations/tiny.yaml")
    path.write_text(TINY.replace("{epochs: 1, batch_size: 16, optimizer: {name: sgd, lr: 0.1}}", "mine"))
    assert command("plan", "tiny").code == 0
    assert any(line.startswith("mine ") for line in command("show", "recipes").out.splitlines())


@pytest.mark.parametrize("name", ["tiny2", "other"])
def test_a_new_report_is_that_of_the_ablation_of_its_name(command, trained, name):
    path = Path("ablations/tiny2.yaml")
    path.write_text(TINY.replace("name: tiny", "name: tiny2").replace("baseline: none\n", ""))
    trained("tiny2")
    written = command("new", "report", name)
    assert (written.code, written.out) == (0, f"reports/{name}.yaml\n")
    assert f"ema-lab report reports/{name}.yaml --out out/{name}" in written.err
    answer = command("report", name, "--out", "out")
    assert answer.code == 0
    assert ("90.50" in answer.out) is (name == "tiny2")
    assert Path("out/figures/tradeoff.txt").is_file()
    assert Path("out/figures/differences.txt").is_file() is (name == "other")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("ablation quickstart", "quickstart is a bundled ablation: ablations/quickstart.yaml would hide it"),
        ("recipe cifar-200", "cifar-200 is a bundled recipe: ablations/recipes/cifar-200.yaml would hide it"),
        ("attention random", "random.py would hide the Python module random"),
        ("dataset numpy", "numpy.py would hide the Python module numpy"),
    ],
)
def test_a_new_file_hides_nothing(command, tree, words, message):
    before = tree()
    answer = command("new", *words.split())
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith(f"ema-lab: {message}")
    assert tree() == before


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("columns", {"top1", "map50", "delta", "latency_ratio", "delta_macs", "delta_METRIC"}),
        ("figures", set(FIGURE_KINDS)),
        ("recipes", set(definitions("ablations/recipes"))),
    ],
)
def test_what_a_file_may_name_is_listed_with_its_meaning(command, kind, names):
    answer = command("show", kind, "--json")
    assert answer.code == 0
    rows = json.loads(answer.out)
    assert names <= {row[kind.removesuffix("s")] for row in rows}
    assert all(row["about" if kind == "recipes" else "meaning"] for row in rows)
    assert command("show", kind).out.splitlines()[0].startswith(kind.removesuffix("s"))


def test_a_name_with_two_meanings_says_so(command):
    answer = command("show", "tiny")
    assert answer.out == TINY
    assert answer.err == "tiny is also a report: ema-lab show report tiny\n"
    assert command("show", "ablation", "tiny").err == ""


def test_a_new_attention_can_be_named_in_an_ablation_at_once(command):
    written = command("new", "attention", "my_gate")
    assert (written.code, written.out) == (0, "my_gate.py\n")
    assert "{name: 'my_gate:MyGate'}" in written.err
    path = Path("ablations/tiny.yaml")
    path.write_text(TINY.replace("{name: se, reduction: 4}", "{name: 'my_gate:MyGate', bias: false}"))
    assert "bias: bool (default True)" in command("show", "my_gate:MyGate").out
    answer = command("run", "tiny", "--smoke", "--only", "variant=se", "--device", "cpu")
    assert answer.code == 0, answer.err
    assert "1 trained, 0 done before, 0 failed" in answer.err


def test_a_new_data_set_goes_through_every_command_at_once(command):
    written = command("new", "dataset", "my_data")
    assert (written.code, written.out) == (0, "my_data.py\n")
    assert "data: {name: 'my_data:my_data'}" in written.err
    shown = command("show", "dataset", "my_data:my_data").out
    assert "4 classes, 400 training and 100 test images, 1 x 16 x 16" in shown
    assert "noise: float (default 0.2)" in shown
    text = TINY.replace(
        "{name: synthetic, train_images: 32, test_images: 16, image_size: 8}",
        "{name: 'my_data:my_data', noise: 0.1, train_images: 64}",
    )
    Path("ablations/tiny.yaml").write_text(text)
    for words in (
        "plan tiny --check",
        "run tiny --smoke --workers 1",
        "run tiny --workers 2",
        "report tiny --out out",
    ):
        answer = command(*words.split(), *(["--device", "cpu"] if words.startswith("run") else []))
        assert answer.code == 0, answer.err
    assert "my_data:my_data" in Path("out/table.md").read_text()
    run_id = json.loads(command("list", "runs", "--json").out)[0]["run_id"]
    record = json.loads(command("show", "run", run_id).out)["record"]
    assert record["source"]["data"]
    assert len(record["data_sha256"]) == 64


def test_malformed_facts_of_a_data_set_are_one_line_with_file_and_line(command):
    command("new", "dataset", "my_facts")
    path = Path("my_facts.py")
    path.write_text(path.read_text().replace('"classes": 4', '"classes": "four"'))
    data = "{name: synthetic, train_images: 32, test_images: 16, image_size: 8}"
    Path("ablations/tiny.yaml").write_text(TINY.replace(data, "{name: 'my_facts:my_facts'}"))
    answer = command("plan", "tiny")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "ablations/tiny.yaml:5: data.name: " in answer.err
    assert "my_facts.py:12: FACTS: classes: must be a whole number, got 'four'; " in answer.err
    shown = command("show", "dataset", "my_facts:my_facts")
    assert (shown.code, "my_facts.py:12: FACTS: classes" in shown.err) == (2, True)


def test_the_statistics_of_a_new_data_set_are_those_of_its_images(command):
    command("new", "dataset", "my_data")
    facts = dataset_facts("my_data:my_data", {})
    pixels = load_splits(DataSpec(name="my_data:my_data"), Path("data")).train.images / 255
    assert (pixels.mean().item(), pixels.std().item()) == pytest.approx((*facts.mean, *facts.std), abs=0.01)


def test_a_new_backbone_goes_through_every_command_at_once(command):
    written = command("new", "backbone", "my_net")
    assert (written.code, written.out) == (0, "my_net.py\n")
    use = "{backbone: 'my_net:my_net', placement: {after: 'blocks.*.norm2'}}"
    assert use in written.err
    assert "width: int (default 16)" in command("show", "backbone", "my_net:my_net").out
    net = BACKBONES.build("my_net:my_net", 5, 1, width=8)
    logits = net(torch.randn(2, 1, 16, 16))
    assert logits.shape == (2, 5)
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())
    text = TINY.replace("{backbone: resnet20, placement: {after: block_end}}", use)
    Path("ablations/tiny.yaml").write_text(text)
    assert command("plan", "tiny", "--check").code == 0
    trained = command("run", "tiny", "--smoke", "--device", "cpu", "--workers", "1")
    assert trained.code == 0, trained.err


def test_a_name_that_would_make_no_code_is_refused(command, tree):
    before = tree()
    pairs = "attention _", "attention __1", "backbone class", "dataset My", "ablation -a"
    for kind, name in map(str.split, pairs):
        answer = command("new", kind, "--", name)
        assert (answer.code, answer.out, tree()) == (2, "", before)
        assert f"'{name}' is no name for a" in answer.err
        assert f"{kind} file; something like 'my" in answer.err


def test_schemas_are_printed_or_written(command):
    printed = json.loads(command("schema").out)
    assert set(printed) == {"ablation", "published", "ray", "recipe", "report", "run", "slurm", "sweep"}
    assert json.loads(command("schema", "run").out) == printed["run"]
    answer = command("schema", "--out", "schemas")
    assert answer.out.splitlines() == [f"schemas/{kind}.schema.json" for kind in printed]
    for kind, value in printed.items():
        assert json.loads(Path(f"schemas/{kind}.schema.json").read_text()) == value
    assert set(read_document(Path("ablations/tiny.yaml")).value) <= set(printed["ablation"]["properties"])


@pytest.mark.parametrize(
    ("words", "rest"),
    [
        (["run", "tiny"], "; what was finished is kept, the rest is pending"),
        (["plan", "tiny"], ""),
        (["serve", "tiny"], ""),
        (["report", "tiny"], ""),
        (["bundle", "tiny", "--out", "paper.zip"], ""),
        (["verify", "paper.zip"], ""),
    ],
)
def test_ctrl_c_ends_with_130_and_says_what_is_kept_where_something_was_trained(
    command, monkeypatch, words, rest
):
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    for name in ("workflow.publish.report", "reports.bundle.bundle", "reports.bundle.verify"):
        importlib.import_module(f"ema_lab.{name}")  # one that is imported later would keep what is patched
    for name, module in list(sys.modules.items()):
        for function in ("load_ablation", "load_report", "verify_bundle"):
            if name.startswith("ema_lab.") and function in vars(module):
                monkeypatch.setattr(module, function, interrupt)
    answer = command(*words)
    assert (answer.code, answer.out) == (130, "")
    assert answer.err == f"ema-lab: interrupted{rest}\n"


def test_each_kind_of_file_has_a_help_of_its_own(command):
    texts = {kind: command("new", kind, "--help").out for kind in TEMPLATES}
    assert HELP.keys() == TEMPLATES.keys()
    for kind, text in texts.items():
        assert f"Example: ema-lab new {kind} {TEMPLATES[kind].example}" in text
        assert " ".join(HELP[kind].split()[:5]) in text
        assert ("--from" in text) is (kind == "dataset")
    assert "--from" in command("new", "--help").out

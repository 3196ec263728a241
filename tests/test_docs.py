"""README and documentation stay true: commands parse and run, files load, Python runs, links lead on."""

import contextlib
import io
import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from pages import (
    DOCS,
    PAGES,
    README,
    ROOT,
    Block,
    all_blocks,
    anchors,
    blocks,
    generated,
    generator,
    links,
    spans,
    text_of,
)
from PIL import Image

from ema_lab.ablation.ablation import load_ablation
from ema_lab.cli.main import UsageError, app, run
from ema_lab.errors import SpecError
from ema_lab.models.build import build_model
from ema_lab.search.sweep import load_sweep
from ema_lab.specs.columns import COLUMNS
from ema_lab.specs.engine import load_engine
from ema_lab.specs.figure import FIGURE_KINDS
from ema_lab.specs.report import load_report
from ema_lab.specs.schema import SCHEMAS
from ema_lab.specs.task import task_description

BASE_KEYS = {"model", "data", "recipe"}
ROW_KEYS = ("variants", "vary", "without")
HERE = ("--device", "cpu")  # what a command that trains is given besides
PLACEHOLDERS = {"N": "1", "KEY=VALUE": "variant=se"}
SHORT_RECIPE = "epochs: 3"  # of the digits' recipe, so that the pages' commands train little


def page_id(path: Path) -> str:
    return path.name


def block_id(block: Block) -> str:
    return f"{block.page}-{block.text.splitlines()[0][:40]}"


def in_this_process(folder: Path, *arguments: str) -> str:
    """Run a command in a folder and return its output and messages."""
    printed = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        code = run(list(arguments))
    assert code == 0, f"{shlex.join(arguments)}: {printed.getvalue()}"
    return printed.getvalue()


def renew(folder: Path, arguments: list[str]) -> str:
    """Run a command as a reader would; a file of an earlier page makes way for the one that `new` writes."""
    if arguments[0] == "new":
        for path in folder.rglob(f"{arguments[2]}.*"):
            path.unlink()
    return in_this_process(folder, *arguments, *(HERE if arguments[0] == "run" else ()))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder in which a reader has started the files that pages name."""
    path = tmp_path_factory.mktemp("pages")
    for words in ("attention my_gate", "backbone my_net", "dataset my_data", "ablation my-study"):
        in_this_process(path, "new", *words.split())
    (path / "yolov5s.pt").write_bytes(b"made up")
    return path


# -- Commands


def parse(arguments: list[str]) -> None:
    """Parse a command without running it. Raises a usage error as the command itself does."""
    from typer.main import get_command

    command: Any = get_command(app)
    context = command.make_context("ema-lab", list(arguments))
    while hasattr(command, "commands"):
        rest = [*context._protected_args, *context.args]
        name, command, rest = command.resolve_command(context, rest)
        context = command.make_context(name, rest, parent=context)


@pytest.mark.parametrize("path", PAGES, ids=page_id)
def test_every_command_of_a_page_parses(path, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for block in blocks(path, "sh"):
        for words in block.commands:
            if words[0] == "ema-lab":
                parse(words[1:])


def complaint(arguments: list[str]) -> str:
    """Return why a command is wrong; the text of a page may leave required arguments out."""
    try:
        parse(arguments)
    except UsageError as error:
        return "" if type(error).__name__ == "MissingParameter" else str(error.format_message())
    return ""


@pytest.mark.parametrize("path", PAGES, ids=page_id)
def test_every_command_in_a_pages_text_parses(path):
    for span in spans(path):
        words = [PLACEHOLDERS.get(word, word) for word in shlex.split(span)] if "ema-lab " in span else []
        if words[:1] != ["ema-lab"] or words[1] == "COMMAND":
            continue
        assert not complaint(words[1:]), span


def known_options() -> set[str]:
    return set(re.findall(r"--[a-z][a-z-]+", generated("reference/commands.md")))


@pytest.mark.parametrize("path", PAGES, ids=page_id)
def test_every_option_in_a_pages_text_exists(path):
    named = {
        word for span in spans(path) if span.startswith("--") for word in span.split() if word[:2] == "--"
    }
    assert named <= known_options()


def test_other_commands_are_make_targets_that_exist():
    targets = {words[1] for block in all_blocks("sh") for words in block.commands if words[0] == "make"}
    others = {words[0] for block in all_blocks("sh") for words in block.commands}
    assert others == {"ema-lab", "make"}
    assert targets == set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)) & targets


def test_extras_that_pages_install_exist():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {name for path in PAGES for name in re.findall(r"ema-lab\[(\w+)\]", text_of(path))}
    assert named
    assert named <= set(extras)


def test_ci_runs_the_two_commands_of_a_fresh_machine_and_builds_the_site():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    targets = [words[1] for block in blocks(README, "sh") for words in block.commands if words[0] == "make"]
    assert targets == ["quickstart", "test"]
    made = [line.split()[1:] for line in script.splitlines() if line.startswith("make ")]
    assert {*targets, "docs"} <= {word for words in made for word in words}


def test_ci_runs_what_depends_on_the_processor_as_on_another_one():
    script, makefile = (ROOT.joinpath(*path).read_text() for path in ((".ci", "run"), ("Makefile",)))
    assert "make --no-print-directory test-without-avx\n" in script
    recipe = makefile.partition("\ntest-without-avx:")[2].partition("\n\n")[0]
    assert "ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41" in recipe
    places = re.findall(r"tests/\S+", recipe)
    assert {"tests/training", "tests/data", "tests/profiling", "tests/test_docs.py"} <= set(places)
    assert all((ROOT / place).exists() for place in places)


# -- Files


def base_of(changes: dict[str, Any]) -> dict[str, Any]:
    """Return a base with what a page leaves out: for a detector COCO's ablation, else the quickstart."""
    backbone = changes.get("model", {}).get("backbone", "resnet20")
    name = "coco_yolov5s" if backbone.startswith("yolov5") else "quickstart"
    shipped = yaml.safe_load((ROOT / "ablations" / f"{name}.yaml").read_text())["base"]
    return {**shipped, "model": {"backbone": backbone}, **changes}


def completed(value: dict[str, Any]) -> dict[str, Any]:
    """Return an ablation from the part of one that a page shows."""
    whole: dict[str, Any] = {"name": "part", "base": base_of({}), "seeds": [0], "variants": {"row": {}}}
    if value.keys() <= BASE_KEYS:
        return {**whole, "base": base_of(value)}
    if "axes" in value:
        whole["variants"] = {
            "none": {"model.attention": "none"},
            "ema": {"model.attention": {"name": "ema", "groups": 8}},
        }
    if rows := [key for key in ROW_KEYS if key in value]:
        whole.pop("variants")
        assert len(rows) == 1
    return {**whole, **value, "base": base_of(value.get("base", {}))}


def is_placement(block: Block) -> bool:
    return block.text.startswith("placement:")


@pytest.mark.parametrize("block", [b for b in all_blocks("yaml") if not is_placement(b)], ids=block_id)
def test_every_file_of_a_page_loads(block, folder, monkeypatch, tmp_path):
    monkeypatch.chdir(folder)
    value = yaml.safe_load(block.text)
    path = tmp_path / f"{value.get('name', 'part')}.yaml"
    path.write_text(block.text)
    if "engine" in value:
        assert load_engine(path).engine == value["engine"]
    elif "method" in value:
        assert load_sweep(path).name == value["name"]
    elif "ablation" in value:
        assert load_report(path).ablation == value["ablation"]
    elif "name" in value and "base" in value:
        assert load_ablation(path).cells
    else:
        path.write_text(yaml.safe_dump(completed(value), sort_keys=False))
        assert load_ablation(path).cells


def test_the_pages_show_the_files_that_new_writes(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder)
    in_this_process(folder, "new", "sweep", "my-search")
    for file, load in (("ablations/my-study.yaml", run_ids), ("sweeps/my-search.yaml", search_space)):
        shown = [block for block in all_blocks("yaml") if block.file == file]
        assert shown
        for block in shown:
            path = tmp_path / Path(file).name
            path.write_text(block.text)
            assert load(path) == load(Path(file))


def run_ids(path: Path) -> list[str]:
    return [cell.run_id for cell in load_ablation(path).cells]


def search_space(path: Path) -> tuple[object, ...]:
    sweep = load_sweep(path)
    return sweep.base.run_id, sweep.constants, sweep.parameters


PLACEMENTS = [line for block in all_blocks("yaml") if is_placement(block) for line in block.text.splitlines()]


def test_the_pages_show_placements():
    assert len(PLACEMENTS) > 4


@pytest.mark.parametrize("line", PLACEMENTS)
def test_the_pages_placements_name_something(make_spec, line):
    def fits(backbone: str) -> bool:
        model = {"backbone": backbone, **yaml.safe_load(line)}
        try:
            build_model(make_spec("simam", model=model, data={"image_size": 64}), device="meta")
        except SpecError:
            return False
        return True

    assert any(fits(backbone) for backbone in ("resnet50", "mobilenet_v3_large"))


def test_the_readmes_own_module_can_be_placed(folder):
    value = yaml.safe_load(next(block.text for block in blocks(README, "yaml") if "my_gate" in block.text))
    whole = {**completed(value), "name": "mine"}
    (folder / "mine.yaml").write_text(yaml.safe_dump(whole, sort_keys=False))
    words = ("run", "mine.yaml", "--smoke", *HERE, "--workers", "1")
    assert "1 trained" in in_this_process(folder, *words)


# -- Python


def is_script(block: Block) -> bool:
    return "__main__" in block.text


@pytest.mark.parametrize("block", [b for b in all_blocks("python") if not is_script(b)], ids=block_id)
def test_the_python_of_a_page_runs(block, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(compile(block.text, block.page, "exec"), {"__name__": "page"})
    if block.text.startswith("from ema_lab import RunStore"):
        assert capsys.readouterr().out.splitlines() == ["269434", "pending"]


# -- Links, names and size


def test_the_readme_is_short():
    assert len(text_of(README).splitlines()) < 150


@pytest.mark.parametrize("path", PAGES, ids=page_id)
def test_links_lead_to_files_and_anchors(path):
    for file, anchor in links(path):
        target = (path.parent / file).resolve() if file else path
        page = target.relative_to(DOCS).as_posix() if target.is_relative_to(DOCS) else ""
        if page in generator().PAGES:
            text = generated(page) if anchor else ""
        else:
            assert target.is_file(), f"{path.name}: {file}"
            text = text_of(target) if anchor else ""
        assert not anchor or anchor in anchors(text), f"{path.name}: {file}#{anchor}"


def test_the_readme_and_the_site_lead_to_every_page():
    linked = {file for file, _ in links(README)}
    site = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    named = set(re.findall(r"^ +- (?:.*: )?(\S+\.md)$", site, re.MULTILINE))
    pages = {path.name for path in PAGES} - {"README.md"}
    assert {f"docs/{page}" for page in pages - {"index.md"}} <= linked
    assert named == pages | set(generator().PAGES)


def test_languages_of_blocks_say_what_is_run():
    assert {block.language for block in all_blocks()} <= {"sh", "yaml", "python", "text", "bash", "yml", "py"}


def test_pages_name_no_place_of_a_machine():
    for path in PAGES:
        assert not re.search(r"(?<![\w.])/(home|root|work|tmp|opt)/", text_of(path)), path.name


# -- Generated pages


def test_the_reference_names_every_column():
    page = generated("reference/columns.md")
    metrics = [name for task in ("classification", "detection") for name in task_description(task).metrics]
    assert all(f"`{name}`" in page for name in (*COLUMNS, *metrics))


def test_the_reference_names_every_figure_file_and_command():
    assert all(f"\n## {kind}\n" in generated("reference/figures.md") for kind in FIGURE_KINDS)
    assert all(f"\n## {kind}\n" in generated("reference/files.md") for kind in SCHEMAS if kind != "sweep")
    help_lines = (
        in_this_process(ROOT, "--help")
        .partition("\nDefine:\n")[2]
        .partition("\nEverywhere:\n")[0]
        .splitlines()
    )
    names = [line.split()[0] for line in help_lines if re.match(r"  \w", line)]
    assert len(names) > 20
    assert all(f"\n## ema-lab {name}\n" in generated("reference/commands.md") for name in names)
    assert "\n### ema-lab store gc\n" in generated("reference/commands.md")


def test_the_reference_has_every_recipe_module_and_data_set():
    for page, kind in (("recipes", "recipes"), ("attention", "attentions"), ("data", "datasets")):
        names = [row["name"] for row in json.loads(in_this_process(ROOT, "list", kind, "--json"))]
        assert names
        assert all(f"\n## {name}\n" in generated(f"reference/{page}.md") for name in names)


# -- Whole runs


def masked(line: str) -> str:
    """Return a line without what differs between machines and recipes: numbers, hashes, widths."""
    return " ".join(re.sub(r"[-+]?\d[\d.,e-]*", "#", re.sub(r"\b[0-9a-f]{16}\b", "#", line)).split()).replace(
        "-", ""
    )


@pytest.fixture(scope="module")
def short(tmp_path_factory) -> Path:
    """A folder whose recipes for digits and for scenes of digits take three epochs."""
    path = tmp_path_factory.mktemp("commands")
    recipes = path / "ablations" / "recipes"
    recipes.mkdir(parents=True)
    for name in ("digits-quick.yaml", "digit-scenes.yaml"):
        text = (ROOT / "ablations" / "recipes" / name).read_text()
        shorter, count = re.subn(r"(?<= )epochs: \d+", SHORT_RECIPE, text, count=1)
        assert count == 1
        (recipes / name).write_text(shorter)
    for number, place in enumerate(
        ("train/cat", "train/cat", "train/dog", "train/dog", "val/cat", "val/dog")
    ):
        values = np.random.default_rng(number).integers(0, 256, (40, 32, 3), dtype=np.uint8)
        (path / "data" / "pets" / place).mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(path / "data" / "pets" / place / f"{number}.jpg")
    return path


@pytest.mark.slow
def test_every_command_of_every_page_runs(short):
    for page in PAGES:
        printed = ""
        for block in blocks(page, "sh", "yaml", "text"):
            if block.file:
                (short / block.file).parent.mkdir(exist_ok=True)
                (short / block.file).write_text(block.text)
            elif block.language == "text":
                shown = {masked(line) for line in block.text.splitlines()}
                assert shown <= {masked(line) for line in printed.splitlines()} | {""}, printed
            elif block.language == "sh":
                ours = [words[1:] for words in block.commands if words[0] == "ema-lab"]
                printed = "".join([renew(short, arguments) for arguments in ours])
    status = json.loads(
        in_this_process(short, "status", "digit_scenes_quick", "--json").partition("]")[0] + "]"
    )
    assert [row["status"] for row in status] == ["done"] * 4
    for name in ("quickstart", "my-paper", "detection"):
        assert (short / "out" / name / "table.tex").is_file()


@pytest.mark.system
def test_the_first_detector_learns_in_its_whole_recipe(tmp_path):
    in_this_process(tmp_path, "run", "digit_scenes_quick", "--workers", "2", *HERE)
    status = json.loads(
        in_this_process(tmp_path, "status", "digit_scenes_quick", "--json").partition("]")[0] + "]"
    )
    assert min(row["map"] for row in status) > 15


@pytest.mark.slow
def test_the_scripts_of_the_pages_train_and_search(short):
    (script,) = [block for block in all_blocks("python") if is_script(block)]
    (short / "notebook.py").write_text(script.text)  # a file: its workers import it again
    done = subprocess.run(
        [sys.executable, "notebook.py"], cwd=short, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    trained, counts, best, report = done.stdout.splitlines()
    assert trained.endswith(" []")
    assert counts.startswith("Counter({")
    assert "recipe." in best or "model." in best
    assert report.startswith("none ")

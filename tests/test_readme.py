"""The README stays true: its files load, its commands run, its Python runs."""

import contextlib
import io
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ema_lab.ablation.ablation import load_ablation
from ema_lab.cli.main import run
from ema_lab.errors import SpecError
from ema_lab.models.build import build_model
from ema_lab.specs.engine import load_engine

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    lines = [line.partition("#")[0].strip() for block in blocks("sh") for line in block.splitlines()]
    return [line for line in lines if line]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """An empty folder in which a user has written the README's ablation and module."""
    path = tmp_path_factory.mktemp("readme")
    in_this_process(path, "new", "ablation", "my-study")
    in_this_process(path, "new", "attention", "my_gate")
    return path


def in_this_process(folder: Path, *arguments: str) -> str:
    with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()) as printed:
        assert run(list(arguments)) == 0
    return printed.getvalue()


def ema_lab(folder: Path, *arguments: str) -> str:
    command = [Path(sys.executable).with_name("ema-lab"), *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_ci_runs_the_two_commands_of_a_fresh_machine():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    targets = [command.split()[1] for command in commands() if command.startswith("make ")]
    assert targets == ["quickstart", "test"]
    assert all(f"make --no-print-directory {target}" in script for target in targets)


def test_ci_runs_what_depends_on_the_processor_as_on_another_one():
    script, makefile = (ROOT.joinpath(*path).read_text() for path in ((".ci", "run"), ("Makefile",)))
    assert "make --no-print-directory test-without-avx\n" in script
    recipe = makefile.partition("\ntest-without-avx:")[2].partition("\n\n")[0]
    assert "ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41" in recipe
    places = re.findall(r"tests/\S+", recipe)
    assert {"tests/training", "tests/data", "tests/cost", "tests/test_readme.py"} <= set(places)
    assert all((ROOT / place).exists() for place in places)


def test_the_readmes_ablation_is_the_one_that_new_writes(folder, tmp_path):
    text = blocks("yaml")[0]
    path = tmp_path / "my-study.yaml"
    path.write_text(text)
    written = load_ablation(folder / "ablations" / "my-study.yaml")
    assert [cell.run_id for cell in load_ablation(path).cells] == [cell.run_id for cell in written.cells]


PLACEMENTS = [line for line in "\n".join(blocks("yaml")).splitlines() if line.startswith("placement:")]


def test_the_readmes_cluster_file_loads(tmp_path):
    (tmp_path / "cluster.yaml").write_text(next(b for b in blocks("yaml") if b.startswith("engine:")))
    assert load_engine(tmp_path / "cluster.yaml").engine == "slurm"


def test_the_readme_shows_placements():
    assert len(PLACEMENTS) > 4


@pytest.mark.parametrize("line", PLACEMENTS)
def test_the_readmes_placements_name_something(make_spec, line):
    def fits(backbone):
        model = {"backbone": backbone, **yaml.safe_load(line)}
        try:
            build_model(make_spec("simam", model=model, data={"image_size": 64}), device="meta")
        except SpecError:
            return False
        return True

    assert any(fits(backbone) for backbone in ("resnet50", "mobilenet_v3_large"))


def test_the_readmes_own_module_can_be_placed(folder):
    base = (folder / "ablations" / "my-study.yaml").read_text().partition("baseline:")[0]
    text = base.replace("name: my-study", "name: mine") + next(
        block for block in blocks("yaml") if "my_gate" in block
    )
    (folder / "mine.yaml").write_text(text)
    words = ("run", "mine.yaml", "--smoke", "--device", "cpu", "--workers", "1", "--json")
    rows = json.loads(in_this_process(folder, *words))
    assert [(row["variant"], row["status"]) for row in rows] == [("mine", "done")]


def test_the_readmes_python_runs(folder):
    code, _ = blocks("python")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["269434", "pending"]


@pytest.mark.slow
def test_the_readmes_python_trains_and_searches(folder):
    (folder / "notebook.py").write_text(blocks("python")[1])  # a file: its workers import it again
    done = subprocess.run(
        [sys.executable, "notebook.py"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    trained, counts, best, report = done.stdout.splitlines()
    assert trained.endswith(" 0 []")
    assert counts.startswith("Counter({")
    assert "recipe." in best or "model." in best
    assert report.startswith("none ")


@pytest.mark.slow
def test_every_command_of_the_readme_runs(folder):
    ours = [command for command in commands() if command.startswith("ema-lab ")]
    assert len(ours) >= 9
    (folder / "my_gate.py").unlink(missing_ok=True)  # the README's own command writes it
    for command in ours:
        ema_lab(folder, *shlex.split(command)[1:])
    status = json.loads(ema_lab(folder, "status", "my-study", "--json"))
    assert {row["status"] for row in status} == {"done"}
    assert min(row["top1"] for row in status) > 90
    assert (folder / "out" / "quickstart" / "table.md").is_file()

"""Source hashes: per part of a run, complete by construction, and those of the source that ran."""

import ast
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import ema_lab
from ema_lab.registry.catalogue import ATTENTIONS, BACKBONES, DATASETS
from ema_lab.specs.run import RunSpec
from ema_lab.specs.task import task_description
from ema_lab.store import source
from ema_lab.store.source import CHANGE_NO_NUMBER, Sources, changes_no_number, loaded_sources, source_hashes

PACKAGE = Path(ema_lab.__file__).parent
PARTS = ("module", "backbone", "data", "training")


@pytest.fixture
def run(specs):
    def run(attention="none", also=()):
        tree = specs[0].resolved()
        tree["model"] |= {"attention": attention, "also": [{"attention": name} for name in also]}
        return RunSpec.model_validate(tree)

    return run


def changed(before, after):
    return {part for part in before if before[part] != after[part]}


class TestSourceHashes:
    def test_name_the_parts_of_a_run(self, run):
        hashes = source_hashes(run("ema"))
        assert tuple(hashes) == PARTS
        assert all(len(value) == 16 for value in hashes.values())

    def test_differ_only_in_the_part_that_differs(self, run):
        assert changed(source_hashes(run("ema")), source_hashes(run("se"))) == {"module"}

    def test_hold_every_inserted_module(self, run):
        assert source_hashes(run("ema", ["se"]))["module"] != source_hashes(run("ema"))["module"]

    def test_do_not_depend_on_options_or_seeds(self, run, specs):
        assert source_hashes(run({"name": "ema", "groups": 8})) == source_hashes(run("ema"))
        assert source_hashes(specs[0]) == source_hashes(specs[1])

    def test_hold_the_data_set_whose_statistics_normalise(self, make_spec):
        plain, borrowed = (make_spec(recipe={"normalise": value}) for value in ("dataset", "cifar10"))
        assert changed(source_hashes(plain), source_hashes(borrowed)) == {"data"}

    @pytest.mark.slow
    def test_do_not_depend_on_the_order_of_sets(self, run):
        spec = run("cbam", ["triplet"])
        program = """
            import json, sys
            from ema_lab.specs.run import RunSpec
            from ema_lab.store.source import source_hashes
            print(json.dumps(source_hashes(RunSpec.model_validate(json.loads(sys.argv[1])))))
        """
        found = {
            subprocess.run(
                [sys.executable, "-c", textwrap.dedent(program), json.dumps(spec.resolved())],
                env={**os.environ, "PYTHONHASHSEED": seed},
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            for seed in ("1", "2")
        }
        assert [json.loads(one) for one in found] == [source_hashes(spec)]


def test_the_source_of_a_wrapped_module_counts(make_spec):
    plain, wrapped, other = (
        source_hashes(make_spec(attention))["module"]
        for attention in (
            "se",
            {"name": "frozen", "of": {"name": "se"}},
            {"name": "frozen", "of": {"name": "ca"}},
        )
    )
    assert len({plain, wrapped, other}) == 3


class TestUsersFiles:
    GATE = "from helper import scale\nclass Gate:\n    def __init__(self, channels: int) -> None: ...\n"

    @pytest.fixture
    def spec(self, make_spec, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        Path("mine.py").write_text(self.GATE)
        Path("helper.py").write_text("scale = 1\n")
        return make_spec("mine:Gate")

    @pytest.mark.parametrize(
        ("text", "parts"),
        [("scale = 1  # one\n", set()), ("scale = 22\n", {"module"}), ("scale = True\n", {"module"})],
    )
    def test_count_with_what_they_import(self, spec, text, parts):
        before = source_hashes(spec)
        Path("helper.py").write_text(text)
        assert changed(before, source_hashes(spec)) == parts

    def test_are_read_again_after_an_edit_that_keeps_size_and_time(self, spec):
        before, times = source_hashes(spec), Path("helper.py").stat()
        Path("helper.py").write_text("scale = 2\n")
        os.utime("helper.py", ns=(times.st_atime_ns, times.st_mtime_ns))
        assert changed(before, source_hashes(spec)) == {"module"}

    def test_tell_0_from_false_and_1_from_true_and_from_1_0(self, spec):
        found = set()
        for value in ("0", "False", "0.0", "1", "True", "1.0", "'1'"):
            Path("helper.py").write_text(f"scale = {value}\n")
            found.add(source_hashes(spec)["module"])
        assert len(found) == 7

    def test_of_one_file_have_the_hash_that_earlier_releases_gave(self, make_spec, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        head = "import torch\n\n\nclass Gate(torch.nn.Module):\n"
        Path("alone.py").write_text(f"{head}    def __init__(self, channels: int) -> None: ...\n")
        assert source_hashes(make_spec("alone:Gate"))["module"] == "7e1ff9bdce0a2a9c"

    def test_of_a_shared_name_differ_by_what_a_package_declares(self, spec, monkeypatch):
        entries = {}
        for name in ("Gate", "Door"):
            entry = type(ATTENTIONS["se"])(f"mine:{name}", distribution="plugin")
            part = source._Part("module", (("module", name),))
            monkeypatch.setitem(source._TABLES, "module", {name: entry})
            entries[name] = Sources()._hash(part)
        assert entries["Gate"] != entries["Door"]


class TestLoadedSources:
    def test_see_the_package_as_it_was_when_it_was_loaded(self, run, monkeypatch):
        loaded, expected = loaded_sources(), source_hashes(run("ema"))

        def edited(path, **_):
            raise AssertionError(f"{path} is read again")

        monkeypatch.setattr(Path, "read_text", edited)
        assert loaded.of(run("ema")) == expected

    def test_see_a_users_file_as_it_was_first_read_whatever_it_is_asked_for_later(
        self, make_spec, tmp_path, monkeypatch
    ):
        monkeypatch.chdir(tmp_path)
        gate = "class Gate:\n    def __init__(self, channels: int) -> None:\n        self.scale = 1\n"
        Path("kept_gate.py").write_text(gate)
        plain = make_spec("kept_gate:Gate")
        wrapped = make_spec({"name": "frozen", "of": {"name": "kept_gate:Gate"}})
        expected, sources = source_hashes(wrapped), Sources()
        sources.of(plain)
        Path("kept_gate.py").write_text(gate.replace("= 1", "= 2"))
        assert sources.of(wrapped) == expected != source_hashes(wrapped)


TRAINING = """
import json, sys, tempfile
from pathlib import Path
import ema_lab
from ema_lab.one_run.pipeline import Machine, train_run
from ema_lab.specs.run import RunSpec
from ema_lab.store.job import RunJob

spec = RunSpec.model_validate(json.loads(sys.argv[1]))
with tempfile.TemporaryDirectory() as folder:
    train_run(spec, RunJob(Path(folder)), machine=Machine(Path(folder), "cpu"))
package = Path(ema_lab.__file__).parent
files = {Path(getattr(module, "__file__", None) or "/") for module in sys.modules.values()}
print(json.dumps(sorted(str(file.relative_to(package)) for file in files if file.is_relative_to(package))))
"""
AROUND_TRAINING = {  # files that the composition of a run loads, outside of what trains it
    "one_run/": "composes training, costs and trackers",
    "profiling/": "counts a finished model",
    "tracking/": "mirrors a run elsewhere",
}
PART_OF = {  # what a spec names; all else is executed in every run
    "attention/": "module",
    "data/synthetic.py": "data",
    "models/cifar_resnet.py": "backbone",
}


@pytest.fixture(scope="module")
def trained():
    """Return a run, and the files of the package that training it loaded."""
    spec = RunSpec.model_validate(
        {
            "model": {"backbone": "resnet20", "attention": "cbam"},
            "data": {"name": "synthetic", "image_size": 8, "train_images": 24, "val_images": 4},
            "recipe": {
                "epochs": 1,
                "batch_size": 8,
                "protocol": "best-val",
                "optimizer": {"name": "sgd", "lr": 0.1},
                "augment": {"crop_padding": 1, "flip": True},
            },
            "seed": 0,
        }
    )
    command = [sys.executable, "-W", "ignore", "-c", TRAINING, json.dumps(spec.resolved())]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return spec, json.loads(done.stdout.splitlines()[-1])


def says_something(node: ast.AST) -> bool:
    """Whether a node's texts are messages, or are never evaluated."""
    if isinstance(node, ast.Call):
        return ast.unparse(node.func).startswith(("logger.", "logging.", "warnings."))
    if isinstance(node, ast.If):
        return "TYPE_CHECKING" in ast.unparse(node.test)
    return isinstance(node, ast.Raise) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    )


def mutant(text: str, turn: int) -> str:
    """Return the text with one constant changed: by turns the first, one between, and the last."""
    tree = ast.parse(text)
    said = {id(inner) for node in ast.walk(tree) if says_something(node) for inner in ast.walk(node)}
    constants = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, int | float | str)
        and id(node) not in said
    ]
    if not constants:
        return text + "\nadded = 1\n"
    node = constants[(0, len(constants) // 2, -1)[turn % 3]]
    value = node.value
    node.value = not value if isinstance(value, bool) else value + ("~" if isinstance(value, str) else 1)
    return ast.unparse(tree)


@pytest.mark.slow
def test_every_file_that_training_loads_moves_the_hash_of_its_part(trained):
    spec, loaded = trained
    before = source_hashes(spec)
    tried = set()
    for turn, place in enumerate(loaded):
        path = PACKAGE / place
        if place.startswith(tuple(AROUND_TRAINING)) or place.endswith("__init__.py"):
            continue
        text = mutant(path.read_text(encoding="utf-8"), turn)
        moved = changed(before, Sources({path: text}).of(spec))
        if place.startswith(tuple(CHANGE_NO_NUMBER)):
            assert moved == set(), place
        else:
            expected = {part for start, part in PART_OF.items() if place.startswith(start)}
            assert moved == (expected or {"training"}), f"{place}: in another hash, or in none"
            tried.add(place)
    assert tried >= {
        *("attention/cbam.py", "attention/validation.py", "attention/spatial_gate.py"),
        *("data/load.py", "data/synthetic.py", "models/blocks.py", "models/build.py", "randomness.py"),
        *("specs/dataset.py", "specs/recipe.py", "specs/run.py", "training/optimisation.py"),
    }


def test_counting_decides_how_wide_a_matched_control_is(make_spec):
    files = Sources().files(make_spec({"name": "matched", "of": {"name": "se"}}))["module"]
    assert {item.package_path for item in files} >= {
        "profiling/measure.py",
        "models/matched.py",
        "attention/se.py",
    }


def test_what_changes_no_number_is_there_and_says_why():
    files = {str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py")}
    for entry, reason in CHANGE_NO_NUMBER.items():
        assert any(file == entry or file.startswith(entry) for file in files), entry
        assert len(reason.split()) > 2
    assert (
        task_description("classification").metrics["top1"].sign == 1
    )  # the metric that chooses an epoch, though its table is in no hash


@pytest.mark.slow
def test_what_is_left_out_is_left_out_whole_and_nothing_else(trained):
    spec, _ = trained
    files = {item.package_path for part in Sources().files(spec).values() for item in part}
    assert not any(place.startswith(("store/", "registry/")) or place == "errors.py" for place in files)
    assert not any(changes_no_number(item) for part in Sources().files(spec).values() for item in part)


def test_the_packages_around_our_files_compute_nothing():
    """Package files are in no hash, so they may only define names."""
    harmless = ast.Import | ast.ImportFrom | ast.FunctionDef | ast.Assign | ast.Expr | ast.If
    for path in sorted(PACKAGE.rglob("__init__.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            assert isinstance(node, harmless), path
            if isinstance(node, ast.Expr | ast.Assign):
                ast.literal_eval(node.value)  # a docstring, or a table of names


@pytest.mark.parametrize("table", [ATTENTIONS, BACKBONES, DATASETS], ids=lambda table: table.kind)
def test_every_shipped_name_has_a_hash(table, make_spec):
    part = next(part for part, known in source._TABLES.items() if known is table)
    sources = Sources()
    for name in [*table, *(["timm/resnet18"] if table is BACKBONES else [])]:
        named = source._Part(part, ((part, name),))
        assert len(sources._hash(named)) == 16, name
        assert {item.package_path for item in sources._files(named)} >= {
            str(source._source(table, name).path.relative_to(PACKAGE))
        }


@pytest.mark.parametrize("name", ["cifar10", "digits", "fashion_mnist", "imagenet", "synthetic"])
def test_a_changed_mean_moves_the_hash_of_the_data(name):
    path = source._source(DATASETS, name).path
    text = path.read_text(encoding="utf-8")
    mean = ast.unparse(
        next(
            value
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.Dict)
            for key, value in zip(node.keys, node.values, strict=True)
            if isinstance(key, ast.Constant) and key.value == "mean"
        )
    )
    assert text.count(mean) >= 1
    part = source._Part("data", (("data", name),))
    edited = text.replace(mean, mean.replace("0.", "0.1", 1), 1)
    assert edited != text
    assert Sources({path: edited})._hash(part) != Sources()._hash(part)

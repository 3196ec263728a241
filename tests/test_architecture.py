"""Import direction between layers, and rules on file sizes, parameters, skips and clocks."""

import ast
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import ema_lab
from ema_lab.registry.catalogue import DATASETS

PACKAGE = Path(ema_lab.__file__).parent
TESTS = Path(__file__).parent
ALLOWED = {  # the whole architecture in one table, from the ground up: a layer and the layers it may import
    "characters": set(),
    "errors": set(),
    "files": set(),
    "randomness": set(),
    "wording": set(),
    "collector": set(),
    "statistics": set(),
    "registry": {"errors", "files"},
    "specs": {"characters", "errors", "files", "registry", "wording"},
    "attention": {"errors", "registry"},
    "profiling": {"errors"},
    "data": {"errors", "files", "randomness", "registry", "specs", "wording"},
    "models": {"errors", "profiling", "randomness", "registry", "specs", "wording"},
    "ablation": {"errors", "specs", "wording"},
    "store": {"errors", "files", "registry", "specs", "wording"},
    "tasks": {"data", "errors", "models", "registry", "specs", "statistics", "store", "wording"},
    "training": {"data", "errors", "files", "models", "randomness", "specs", "store", "tasks", "wording"},
    "tracking": {"ablation", "errors", "files", "specs", "store", "wording"},
    "one_run": {
        *(
            "attention",
            "collector",
            "data",
            "errors",
            "models",
            "profiling",
            "specs",
            "store",
            "tasks",
            "tracking",
            "training",
            "wording",
        ),
    },
    "execution": {"errors", "files", "registry", "specs", "store", "wording"},
    "measured": {"ablation", "errors", "registry", "specs", "statistics", "store"},
    "tables": {"characters", "specs", "statistics"},
    "audit": {
        "ablation",
        "errors",
        "registry",
        "measured",
        "specs",
        "statistics",
        "store",
        "tables",
        "wording",
    },
    "reports": {
        *("ablation", "audit", "characters", "errors", "files", "measured", "registry", "specs"),
        *("statistics", "store", "tables", "wording"),
    },
    "search": {
        *("ablation", "errors", "execution", "files", "registry", "reports", "specs", "statistics"),
        *("store", "tables", "tracking", "wording"),
    },
    "contract": {
        *("attention", "data", "errors", "models", "profiling", "registry", "specs", "tasks", "wording"),
    },
    "gallery": {"errors", "models", "registry"},
}
ALLOWED["workflow"] = set(ALLOWED)
WORKFLOW_ROOMS = {  # rooms of `workflow`, named as the groups of `--help`, and the rooms each may import
    "define": set(),
    "train": set(),
    "look": {"train"},
    "publish": {"train"},
    "search": {"train"},
}
ALLOWED["cli"] = set(ALLOWED)
MAX_LINES = 400
MAX_PARAMETERS = 8
SHARED_BY_COMMANDS = {  # option types, and helpers that print; all else of cli is one command's own
    *("display", "groups", "kind_help", "mirror_output", "options", "output", "progress"),
    *("search_display", "spelling", "store_argument", "trial_output", "usage", "volume"),
}


def imported_modules(source: str, package: str) -> Iterator[str]:
    """Yield each imported name in full; `package` is what a relative import counts from."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def layer_breaches(package: Path) -> list[str]:
    """Return 'file imports layer' for each import in `package` that the table does not allow."""
    breaches = []
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).parts
        own = parts[0].removesuffix(".py")
        if parts == ("__init__.py",):  # the public names, from anywhere
            continue
        for module in imported_modules(
            path.read_text(encoding="utf-8"), ".".join([package.name, *parts[:-1]])
        ):
            root, _, rest = module.partition(".")
            target = rest.partition(".")[0]
            if root == package.name and target in ALLOWED.keys() - ALLOWED[own] - {own}:
                breaches.append(f"{'/'.join(parts)} imports {target}")
    return breaches


def test_imports_point_down():
    assert layer_breaches(PACKAGE) == []


def test_rooms_of_workflow_import_training_only_and_its_loose_files_import_no_room():
    folder = PACKAGE / "workflow"
    assert {path.name for path in folder.iterdir() if (path / "__init__.py").exists()} == set(WORKFLOW_ROOMS)
    breaches = []
    for path in sorted(folder.rglob("*.py")):
        room = path.relative_to(folder).parts[0]
        package = ".".join(["ema_lab", *path.relative_to(PACKAGE).parts[:-1]])
        for module in imported_modules(path.read_text(encoding="utf-8"), package):
            target = (*module.split("."), "", "")[2] if module.startswith("ema_lab.workflow.") else ""
            if target in WORKFLOW_ROOMS.keys() - WORKFLOW_ROOMS.get(room, set()) - {room}:
                breaches.append(f"{path.relative_to(folder)} imports {target}")
    assert breaches == []


@pytest.mark.parametrize(
    "line",
    [
        "import ema_lab.models.resnet",
        "from ema_lab import models",
        "from ema_lab.models import resnet",
        "from ema_lab.models.resnet import resnet",
        "from .. import models",
        "from ..models import resnet",
        "def f():\n    from ema_lab.models import resnet",
    ],
)
def test_an_import_that_points_up_is_found(tmp_path, line):
    folder = tmp_path / "ema_lab" / "attention"
    folder.mkdir(parents=True)
    (folder / "a.py").write_text(line)
    assert layer_breaches(tmp_path / "ema_lab") == ["attention/a.py imports models"]


@pytest.mark.parametrize("line", ["import ema_lab.errors", "from ema_lab.models import x", "from . import x"])
def test_an_import_that_points_down_is_none(tmp_path, line):
    folder = tmp_path / "ema_lab" / "training"
    folder.mkdir(parents=True)
    (folder / "a.py").write_text(line)
    assert layer_breaches(tmp_path / "ema_lab") == []


def test_every_folder_of_the_package_is_a_layer_of_the_table():
    folders = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in PACKAGE.rglob("*.py")}
    assert folders - {"__init__"} == ALLOWED.keys()


def test_only_the_command_line_prints_and_exits():
    calls = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.relative_to(PACKAGE).parts[0] != "cli"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"print", "sys.exit", "exit", "input"}
    ]
    assert calls == []


def test_every_file_of_the_package_is_short_enough_to_read():
    sizes = {
        path.relative_to(PACKAGE).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for path in sorted(PACKAGE.rglob("*.py"))
    }
    assert sizes.keys() >= {"errors.py", "store/store.py"}
    assert {name: size for name, size in sizes.items() if size > MAX_LINES} == {}


def test_every_public_name_is_there():
    assert [name for name in ema_lab.__all__ if not callable(getattr(ema_lab, name, None))] == []
    assert set(ema_lab.__all__) <= set(dir(ema_lab))


def test_a_name_that_is_not_public_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'build_atention'"):
        _ = ema_lab.build_atention


def test_the_public_names_are_listed_once():
    assert sorted(set(ema_lab.__all__)) == list(ema_lab.__all__) == sorted(ema_lab._WHERE)


def unconditional_skips(source: str) -> list[int]:
    """Return the lines that skip a test, or expect it to fail, whatever the circumstances."""
    lines = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            marks = [item.func if isinstance(item, ast.Call) else item for item in node.decorator_list]
            lines += [
                mark.lineno
                for mark in marks
                if ast.unparse(mark) in {"pytest.mark.skip", "pytest.mark.xfail"}
            ]
        if isinstance(node, ast.Assign) and "pytest.mark.skip" in ast.unparse(node).replace("skipif", ""):
            lines.append(node.lineno)
        body = getattr(node, "body", None)
        first = body[0] if isinstance(node, ast.FunctionDef | ast.Module) and body else None
        if isinstance(first, ast.Expr) and ast.unparse(first).startswith("pytest.skip("):
            lines.append(first.lineno)
    return lines


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("@pytest.mark.skip\ndef test_a(): ...", [1]),
        ("@pytest.mark.skip(reason='later')\nclass TestA: ...", [1]),
        ("@pytest.mark.xfail\ndef test_a(): ...", [1]),
        ("pytestmark = pytest.mark.skip", [1]),
        ("def test_a():\n    pytest.skip('later')", [2]),
        ("@pytest.mark.skipif(True, reason='x')\ndef test_a(): ...", []),
        ("def test_a():\n    if x:\n        pytest.skip('no x')", []),
    ],
)
def test_an_unconditional_skip_is_found(source, expected):
    assert unconditional_skips(source) == expected


def offenders(check: Callable[[str], list[int]], pattern: str) -> dict[str, list[int]]:
    """Return, for each test file in which a check finds something, the lines that it finds."""
    paths = sorted(TESTS.rglob(pattern))
    assert Path(__file__) in paths
    found = {str(path.relative_to(TESTS)): check(path.read_text(encoding="utf-8")) for path in paths}
    return {name: lines for name, lines in found.items() if lines}


def test_no_test_file_skips_anything_unconditionally():
    assert offenders(unconditional_skips, "test_*.py") == {}


CLOCKS = {"monotonic", "perf_counter", "time", "process_time", "monotonic_ns", "perf_counter_ns", "time_ns"}


def bets_on_time(source: str) -> list[int]:
    """Return the lines that sleep for a while or assert how long something took: a slow machine fails those.

    What waits for an event asks for it again and again; that loop may sleep, and may give up at its end.
    """
    tree = ast.parse(source)
    in_loops = {id(node) for loop in ast.walk(tree) if isinstance(loop, ast.While) for node in ast.walk(loop)}
    lines = []
    for node in ast.walk(tree):
        if id(node) in in_loops:
            continue
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"time.sleep", "sleep"}:
            lines.append(node.lineno)
        if isinstance(node, ast.Assert):
            calls = [ast.unparse(one.func) for one in ast.walk(node.test) if isinstance(one, ast.Call)]
            lines += [node.lineno for call in calls if call in {f"time.{clock}" for clock in CLOCKS}]
    return lines


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def test_a():\n    time.sleep(7)", [2]),
        ("for _ in range(3):\n    time.sleep(7)", [2]),
        ("began = time.monotonic()\nassert time.monotonic() - began < 10", [2]),
        ("while not there():\n    assert time.monotonic() < end\n    time.sleep(0.1)", []),
        ("end = time.monotonic() + 5", []),
    ],
)
def test_a_bet_on_time_is_found(source, expected):
    assert bets_on_time(source) == expected


def test_tests_wait_for_events_and_bet_on_no_time():
    assert offenders(bets_on_time, "*.py") == {}


def test_no_two_files_of_the_tests_have_one_name():
    """Pytest imports each by its name alone, and collects nothing where two have the same."""
    names = Counter(path.name for path in TESTS.rglob("*.py") if path.name != "conftest.py")
    assert [name for name, count in names.items() if count > 1] == []


def test_tests_lie_in_folders_named_as_the_layers():
    folders = {path.parent.relative_to(TESTS).parts[0] for path in TESTS.glob("*/**/test_*.py")}
    assert folders <= ALLOWED.keys()


def functions_with_many_parameters(source: str) -> list[str]:
    """Return the functions that take more than MAX_PARAMETERS, `self` and `cls` not counted."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names = [one.arg for one in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
            if len(names) - (names[:1] in (["self"], ["cls"])) > MAX_PARAMETERS:
                found.append(node.name)
    return found


@pytest.mark.parametrize(
    ("signature", "expected"),
    [
        ("a, b, c, d, e, f, g, h", []),
        ("self, a, b, c, d, e, f, g, h", []),
        ("a, b, c, d, e, f, g, h, i", ["f"]),
        ("a, b, c, d, /, e, *, f, g, h, i", ["f"]),
    ],
)
def test_many_parameters_are_counted(signature, expected):
    assert functions_with_many_parameters(f"def f({signature}): ...") == expected


def test_no_function_takes_many_parameters_but_data_sets_and_gpu_kernels():
    """A data set's parameters are its options in YAML; a GPU kernel takes each pointer and size by itself."""
    kernels = PACKAGE / "attention" / "kernels" / "triton_kernels.py"
    found = {
        (str(path.relative_to(PACKAGE)), name)
        for path in PACKAGE.rglob("*.py")
        if path != kernels
        for name in functions_with_many_parameters(path.read_text(encoding="utf-8"))
    }
    targets = (DATASETS[name].target.partition(":") for name in DATASETS)
    data = {(f"{module.removeprefix('ema_lab.').replace('.', '/')}.py", name) for module, _, name in targets}
    assert found - data == set()


def test_a_command_uses_no_other_commands_module():
    breaches = [
        f"{path.name} imports {module}"
        for path in sorted((PACKAGE / "cli").glob("*.py"))
        if path.stem not in {"main", "sweep_group", "warm"}  # which are no commands
        for module in imported_modules(path.read_text(encoding="utf-8"), "ema_lab.cli")
        if module.startswith("ema_lab.cli.") and module.split(".")[2] not in SHARED_BY_COMMANDS
    ]
    assert breaches == []

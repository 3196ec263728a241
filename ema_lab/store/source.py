"""Hashes of the source that a result depends on, per part, blind to comments and docstrings."""

import ast
import hashlib
from collections.abc import Iterable, Set
from functools import cache
from pathlib import Path

from ema_lab.errors import SpecError
from ema_lab.registry.catalogue import ATTENTIONS, BACKBONES, DATASETS, TASKS
from ema_lab.registry.registry import Registry
from ema_lab.registry.signature import source_file, split_target
from ema_lab.specs.run import RunSpec
from ema_lab.specs.task import task_description

_PACKAGE = Path(__file__).resolve().parents[1]
UNREADABLE = ""
_TABLES = {"module": ATTENTIONS, "backbone": BACKBONES, "data": DATASETS}
_SHARED = {  # files of a part besides the one that the spec names
    "module": (),
    "backbone": (
        "models/build.py",
        "models/dropout.py",
        "models/initialisation.py",
        "models/insertion.py",
        "models/placement.py",
    ),
    "data": (
        "data/augmentation.py",
        "data/image_folder.py",  # for data sets of one's own that are read with it
        "data/images.py",
        "data/loading.py",
        "data/module.py",
    ),
    "training": (
        "randomness.py",
        "tasks/task.py",
        "training/callbacks.py",
        "training/evaluation.py",
        "training/module.py",
        "training/optimisation.py",
        "training/precision.py",
        "training/run.py",
        "training/step.py",
        "training/trainer.py",
    ),
}


class Sources:
    """The hash of each part, read once per name.

    Who keeps one sees the source as it was when the part was first asked for, as Python keeps a module
    that it has imported; who makes a new one sees the source as it is.
    """

    def __init__(self) -> None:
        self._hashes: dict[tuple[str, tuple[str, ...]], str] = {}

    def of(self, spec: RunSpec) -> dict[str, str]:
        """Return a hash for each part that the run's result depends on."""
        attentions = (spec.model.attention, *(item.attention for item in spec.model.also))
        named = {
            "module": tuple(name for item in attentions if item.name != "none" for name in item.names),
            "backbone": (spec.model.backbone,),
            "data": (spec.data.name,),
            "training": (spec.data.facts.task,),
        }
        return {part: self._hash(part, names) for part, names in named.items()}

    def _hash(self, part: str, names: tuple[str, ...]) -> str:
        if (part, names) not in self._hashes:
            self._hashes[part, names] = _part_hash(part, names)
        return self._hashes[part, names]


def source_hashes(spec: RunSpec) -> dict[str, str]:
    """Return a hash, of the source as it is now, for each part that the run's result depends on."""
    return Sources().of(spec)


def _part_hash(part: str, names: tuple[str, ...]) -> str:
    """Return a part's hash; a source that cannot be read is like none, so that what it gave is stale."""
    try:
        shared = [_PACKAGE / name for name in _SHARED[part]]
        if part == "training":
            return _combined([*(file for name in names for file in _task_files(name)), *shared])
        files = [_file(_TABLES[part], name) for name in names]
        return _combined([*_with_imports(files), *shared])
    except (OSError, SyntaxError, SpecError):
        return UNREADABLE


def _file(registry: Registry, name: str) -> Path:
    return source_file(split_target(registry[name].target)[0])


def _task_files(name: str) -> set[Path]:
    """Return the source of a task without the module of its metrics, which follow from stored predictions."""
    code, metrics = source_file(split_target(task_description(name).code)[0]), _file(TASKS, name)
    return _with_imports([code], without={metrics} - {code})


def _with_imports(files: Iterable[Path], without: Set[Path] = frozenset()) -> set[Path]:
    """Return the files and those of their own folder that they import, directly or not, but for some."""
    found: set[Path] = set()
    waiting = list(files)
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            waiting += [one for one in _neighbours(file, file.stat().st_mtime_ns) if one not in without]
    return found


@cache
def _neighbours(file: Path, _modified: int) -> tuple[Path, ...]:
    """Return the files beside `file` that it imports."""
    modules: list[str] = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules += [node.module or "", *(f"{node.module or ''}.{alias.name}" for alias in node.names)]
    folder = file.parent.name
    parts = [module.split(".") for module in modules]
    names = {path[-1] for path in parts if len(path) == 1 or path[-2] in {"", folder}}
    return tuple(path for name in sorted(names) if (path := file.with_name(f"{name}.py")).is_file())


def _combined(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for file in sorted(set(files)):
        digest.update(_file_hash(file, file.stat().st_mtime_ns).encode())
    return digest.hexdigest()[:16]


@cache
def _file_hash(file: Path, _modified: int) -> str:
    return syntax_hash(file.read_text(encoding="utf-8"))


def syntax_hash(source: str) -> str:
    """Return a hash of what the code does: formatting, comments and docstrings do not count."""
    return hashlib.sha256(repr(_canonical(ast.parse(source))).encode()).hexdigest()


def _canonical(node: object) -> object:
    """Return a syntax tree as nested tuples, empty fields left out: equal on every Python version."""
    if isinstance(node, ast.AST):
        fields = [(name, value) for name, value in ast.iter_fields(node) if name not in {"ctx", "kind"}]
        if _has_docstring(node):
            fields = [(name, value[1:] if name == "body" else value) for name, value in fields]
        kept = [(name, _canonical(value)) for name, value in fields if value not in (None, [])]
        return (type(node).__name__, *kept)
    if isinstance(node, list):
        return tuple(map(_canonical, node))
    return node


def _has_docstring(node: ast.AST) -> bool:
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    return isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None

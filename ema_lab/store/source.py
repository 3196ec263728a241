"""Hashes of the source that a result depends on, per part: module, backbone, data, training.

A part's files are its roots and all their imports inside the package or beside a user's own file.
`training` covers the code that every run executes, including model building and data loading. The other
parts cover only the files that a spec names beyond that. A release of this package therefore never changes
the hash of a user's own file. Two things are maintained by hand: the root of training, and the list of files
that change no number.
"""

import hashlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ema_lab.errors import SpecError
from ema_lab.registry.catalogue import ATTENTIONS, BACKBONES, DATASETS, DETECTOR_HEADS, TASKS
from ema_lab.registry.registry import Registry
from ema_lab.registry.signature import split_target
from ema_lab.specs.run import RunSpec
from ema_lab.specs.task import task_description
from ema_lab.store.imports import PACKAGE_FOLDER, Source, closure, imported_from_elsewhere, source_of
from ema_lab.store.syntax import PACKAGE, package_hash, syntax_hash

UNREADABLE = ""  # the hash of an unreadable source: equals no recorded hash, so its results are stale
_READ_ERRORS = (OSError, SyntaxError, ValueError, RecursionError, SpecError)
_TABLES = {
    "module": ATTENTIONS,
    "backbone": BACKBONES,
    "detector": DETECTOR_HEADS,
    "data": DATASETS,
    "task": TASKS,
}
TRAINING = f"{PACKAGE}.training.run"  # root module of the code that every run executes
CHANGE_NO_NUMBER: Mapping[str, str] = {  # files and folders of the package in no hash, each with its reason
    "attention/kernels/choice.py": "chooses among kernels that agree within rounding; the record names them",
    "characters.py": "escapes and refuses characters",
    "collector.py": "switches the garbage collector",
    "errors.py": "texts of errors",
    "files.py": "writes files atomically; their content comes from elsewhere",
    "registry/": "finds the code of a name; that code is hashed, and a name never changes its meaning",
    "specs/change.py": "expands named recipes; the result is in the run id",
    "specs/definition.py": "finds definition files",
    "specs/document.py": "reads definition files; their content is in the run id",
    "specs/messages.py": "words the problems of definition files",
    "specs/scalar.py": "reads scalars of definition files; their values are in the run id",
    "specs/strict.py": "checks definition files and writes run ids",
    "specs/metric.py": "names, units and directions of metrics, for tables",
    "specs/task.py": "reads the descriptions of tasks",
    "store/": "keeps results and computes none",
    "tasks/classification/metrics.py": "computes metrics from stored predictions",
    "wording.py": "words of messages",
    "training/environment.py": "records facts beside a result",
    "training/heartbeat.py": "shows progress to the user",
    "training/within_epoch.py": "chooses when checkpoints are written",
    "training/profile.py": "measures the time of phases beside a result",
    "__init__.py": "imports public names on first use",
}


@dataclass(frozen=True)
class _Part:
    """Part of a run's source: the (table, name) pairs of the registry that a spec selects."""

    name: str
    named: tuple[tuple[str, str], ...] = ()


_EVERY_RUN = _Part("training")


class Sources:
    """Source hashes per part, from a snapshot of the files.

    An instance reads each file once and keeps its text, as Python keeps an imported module. A new instance
    reads the files again.

    Args:
        texts: Texts by path that replace the files' content.
    """

    def __init__(self, texts: Mapping[Path, str] | None = None) -> None:
        self._texts = dict(texts or {})
        self._hashes: dict[_Part, str] = {}
        self._part_files: dict[_Part, set[Source]] = {}
        self._hashes_by_names: dict[object, dict[str, str]] = {}

    def of(self, spec: RunSpec) -> dict[str, str]:
        """Return the hash of each part that a run's result depends on."""
        normalise = spec.recipe.normalise if isinstance(spec.recipe.normalise, str) else None
        names = (spec.model.canonical, spec.data.canonical, normalise)  # all that `_parts` looks at
        if names not in self._hashes_by_names:
            self._hashes_by_names[names] = {part.name: self._hash(part) for part in _parts(spec)}
        return dict(self._hashes_by_names[names])

    def note_training(self) -> None:
        """Read and hash the source that every run executes."""
        self._hash(_EVERY_RUN)

    def files(self, spec: RunSpec) -> dict[str, set[Source]]:
        """Return the files of each part; an empty set for a part that cannot be read."""
        files: dict[str, set[Source]] = {part.name: set() for part in _parts(spec)}
        for part in _parts(spec):
            with suppress(*_READ_ERRORS):
                files[part.name] = self._files(part)
        return files

    def unhashed(self, spec: RunSpec) -> dict[str, Path]:
        """Return the modules, with their files, that a run's own code imports and no hash covers."""
        files = set[Source]()
        for part in _parts(spec):
            with suppress(*_READ_ERRORS):
                if not all(root.in_package for root in _roots(part)):  # the package imports no user's file
                    files |= self._files(part)
        return imported_from_elsewhere(files, self._read)

    def _hash(self, part: _Part) -> str:
        if part not in self._hashes:
            self._hashes[part] = UNREADABLE
            with suppress(*_READ_ERRORS):
                self._hashes[part] = self._combined(self._files(part), _declared(part))
        return self._hashes[part]

    def _files(self, part: _Part) -> set[Source]:
        if part not in self._part_files:
            if part == _EVERY_RUN:
                files = closure([source_of(TRAINING)], self._read, changes_no_number)
            elif part.name == _EVERY_RUN.name:
                files = self._files(_EVERY_RUN).union(*(self._task(name) for _, name in part.named))
            else:
                files = closure(_roots(part), self._read, changes_no_number) - self._files(_EVERY_RUN)
            self._part_files[part] = files
        return self._part_files[part]

    def _task(self, name: str) -> set[Source]:
        """Return a task's files without its metrics module: metrics follow from stored predictions."""
        code, metrics = source_of(split_target(task_description(name).code)[0]), _source(TASKS, name)

        def is_excluded(source: Source) -> bool:
            return changes_no_number(source) or (source == metrics and source != code)

        return closure([code], self._read, is_excluded)

    def _combined(self, files: Iterable[Source], declared: Iterable[str]) -> str:
        """Combine the hashes of a part's files.

        A user's files are ordered by path. This package's files are ordered by hash, so that moving a file
        inside the package changes no hash.
        """
        own = sorted((source for source in files if not source.in_package), key=lambda source: source.path)
        hashes = [syntax_hash(self._read(source.path)) for source in own]
        hashes = [value for value in hashes if value != syntax_hash("")]  # as of an empty __init__.py
        package = sorted(package_hash(self._read(source.path)) for source in files if source.in_package)
        return hashlib.sha256("".join([*hashes, *package, *declared]).encode()).hexdigest()[:16]

    def _read(self, path: Path) -> str:
        if path not in self._texts:
            self._texts[path] = path.read_text(encoding="utf-8")
        return self._texts[path]


def source_hashes(spec: RunSpec) -> dict[str, str]:
    """Return the hash of each part that a run's result depends on, from the source as it is now."""
    return Sources().of(spec)


def unhashed_imports(module: str) -> dict[str, Path]:
    """Return the modules, with their files, that a user's module imports and no hash covers."""

    def read(path: Path) -> str:
        return path.read_text(encoding="utf-8")

    with suppress(*_READ_ERRORS):
        return imported_from_elsewhere(closure([source_of(module)], read, changes_no_number), read)
    return {}


def loaded_sources() -> Sources:
    """Return a snapshot of the package's source that later edits do not change."""
    files = sorted(PACKAGE_FOLDER.rglob("*.py"))
    return Sources({path: path.read_text(encoding="utf-8") for path in files})


@lru_cache(maxsize=4096)
def changes_no_number(source: Source) -> bool:
    """Return whether a file belongs to the package and is in no hash."""
    path = source.package_path
    return path.endswith("__init__.py") or path.startswith(tuple(CHANGE_NO_NUMBER))


def _parts(spec: RunSpec) -> tuple[_Part, ...]:
    attentions = (spec.model.attention, *(item.attention for item in spec.model.also))
    modules = tuple(name for item in attentions if item.name != "none" for name in item.names)
    backbone = [("backbone", spec.model.backbone)]
    if spec.model.detector is not None:
        backbone.append(("detector", spec.model.detector.name))
    data = [spec.data.name]
    if isinstance(spec.recipe.normalise, str) and spec.recipe.normalise != "dataset":
        data.append(spec.recipe.normalise)  # normalisation by another data set's mean and deviation
    return (
        _Part("module", tuple(("module", name) for name in modules)),
        _Part("backbone", tuple(backbone)),
        _Part("data", tuple(("data", name) for name in data)),
        _Part(_EVERY_RUN.name, (("task", spec.data.facts.task),)),
    )


def _roots(part: _Part) -> list[Source]:
    """Return the files of the names that a spec selects; of a task, that of its code."""
    if part.name == _EVERY_RUN.name:
        return [source_of(split_target(task_description(name).code)[0]) for _, name in part.named]
    return [_source(_TABLES[table], name) for table, name in part.named]


def _source(table: Registry, name: str) -> Source:
    return source_of(split_target(table[name].target)[0])


def _declared(part: _Part) -> list[str]:
    """Return the entry points of names from installed packages, because a package may redirect a name."""
    entries = [_TABLES[table][name] for table, name in part.named]
    return [split_target(entry.target)[1] for entry in entries if entry.distribution]

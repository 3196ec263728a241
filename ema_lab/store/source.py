"""Hashes of the source that a result depends on, per part: module, backbone, data, training.

A part's files are its roots and all that they import inside the package, wherever it lies, or beside a
user's own file. `training` is what every run executes: it also builds the model and loads the data. The
other parts are what a spec names besides, so that a release leaves the hash of a user's own file alone.
Nothing is listed by hand but the root of training and what changes no number.
"""

import hashlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ema_lab.errors import SpecError
from ema_lab.registry.catalogue import ATTENTIONS, BACKBONES, DATASETS, TASKS
from ema_lab.registry.registry import Registry
from ema_lab.registry.signature import split_target
from ema_lab.specs.run import RunSpec
from ema_lab.specs.task import task_description
from ema_lab.store.imports import PACKAGE_FOLDER, Source, closure, source_of
from ema_lab.store.syntax import PACKAGE, package_hash, syntax_hash

UNREADABLE = ""
_UNREAD = (OSError, SyntaxError, ValueError, RecursionError, SpecError)
_TABLES = {"module": ATTENTIONS, "backbone": BACKBONES, "data": DATASETS, "task": TASKS}
TRAINING = f"{PACKAGE}.training.run"  # the root of what every run executes
CHANGE_NO_NUMBER: Mapping[str, str] = {  # files and folders of the package, and why they are in no hash
    "characters.py": "escapes what is shown and refuses what cannot be read",
    "errors.py": "words of errors",
    "files.py": "writes files whole or not at all; their content comes from elsewhere",
    "registry/": "finds the code behind a name; that code is hashed, and what a name means never changes",
    "specs/definition.py": "finds definition files",
    "specs/document.py": "reads definition files; what it reads is in the run id",
    "specs/scalar.py": "reads words of definition files; what they mean is in the run id",
    "specs/strict.py": "checks definition files and writes run ids",
    "specs/metric.py": "names, units and directions of metrics, for tables",
    "specs/task.py": "reads what a task says of itself",
    "store/": "keeps results, and makes none",
    "tasks/classification/metrics.py": "computed from the predictions, which are kept",
    "training/environment.py": "facts that are recorded beside a result",
    "training/heartbeat.py": "a sign of life for whoever watches",
    "__init__.py": "public names, imported when they are used",
}


@dataclass(frozen=True)
class _Part:
    """What a part is made of: the names that the spec gives it, in which tables."""

    name: str
    named: tuple[tuple[str, str], ...] = ()


_EVERY_RUN = _Part("training")


class Sources:
    """The hash of each part, read once per name.

    Whoever keeps one sees every file as it was when it was first read, as Python keeps a module that it
    has imported; whoever makes a new one sees the files as they are.

    Args:
        texts: Texts that stand for what the files hold now.
    """

    def __init__(self, texts: Mapping[Path, str] | None = None) -> None:
        self._texts = dict(texts or {})
        self._hashes: dict[_Part, str] = {}
        self._found: dict[_Part, set[Source]] = {}

    def of(self, spec: RunSpec) -> dict[str, str]:
        """Return a hash for each part that the run's result depends on."""
        return {part.name: self._hash(part) for part in _parts(spec)}

    def note_training(self) -> None:
        """Read what every run executes."""
        self._hash(_EVERY_RUN)

    def files(self, spec: RunSpec) -> dict[str, set[Source]]:
        """Return the files of each part; none of a part that cannot be read."""
        found: dict[str, set[Source]] = {part.name: set() for part in _parts(spec)}
        for part in _parts(spec):
            with suppress(*_UNREAD):
                found[part.name] = self._files(part)
        return found

    def _hash(self, part: _Part) -> str:
        if part not in self._hashes:
            self._hashes[part] = UNREADABLE  # so that its results are stale
            with suppress(*_UNREAD):
                self._hashes[part] = self._combined(self._files(part), _declared(part))
        return self._hashes[part]

    def _files(self, part: _Part) -> set[Source]:
        if part not in self._found:
            if part == _EVERY_RUN:
                files = closure([source_of(TRAINING)], self._read, changes_no_number)
            elif part.name == _EVERY_RUN.name:
                files = self._files(_EVERY_RUN).union(*(self._task(name) for _, name in part.named))
            else:
                roots = [_source(_TABLES[table], name) for table, name in part.named]
                files = closure(roots, self._read, changes_no_number) - self._files(_EVERY_RUN)
            self._found[part] = files
        return self._found[part]

    def _task(self, name: str) -> set[Source]:
        """Return a task's files, without the module of its metrics: they follow from stored predictions."""
        code, metrics = source_of(split_target(task_description(name).code)[0]), _source(TASKS, name)

        def left_out(source: Source) -> bool:
            return changes_no_number(source) or (source == metrics and source != code)

        return closure([code], self._read, left_out)

    def _combined(self, files: Iterable[Source], declared: Iterable[str]) -> str:
        """Return one hash: of a user's files in the order of their paths, of ours in that of their hashes."""
        own = sorted((source for source in files if not source.ours), key=lambda source: source.path)
        hashes = [syntax_hash(self._read(source.path)) for source in own]
        hashes = [value for value in hashes if value != syntax_hash("")]  # an empty __init__.py
        ours = sorted(package_hash(self._read(source.path)) for source in files if source.ours)
        return hashlib.sha256("".join([*hashes, *ours, *declared]).encode()).hexdigest()[:16]

    def _read(self, path: Path) -> str:
        if path not in self._texts:
            self._texts[path] = path.read_text(encoding="utf-8")
        return self._texts[path]


def source_hashes(spec: RunSpec) -> dict[str, str]:
    """Return a hash, of the source as it is now, for each part that the run's result depends on."""
    return Sources().of(spec)


def loaded_sources() -> Sources:
    """Return sources that see the package as it is on disk now, whatever is edited later."""
    files = sorted(PACKAGE_FOLDER.rglob("*.py"))
    return Sources({path: path.read_text(encoding="utf-8") for path in files})


def changes_no_number(source: Source) -> bool:
    """Whether a file is one of the package that is left out of every hash."""
    return source.place.endswith("__init__.py") or source.place.startswith(tuple(CHANGE_NO_NUMBER))


def _parts(spec: RunSpec) -> tuple[_Part, ...]:
    attentions = (spec.model.attention, *(item.attention for item in spec.model.also))
    modules = tuple(name for item in attentions if item.name != "none" for name in item.names)
    data = [spec.data.name]
    if isinstance(spec.recipe.normalise, str) and spec.recipe.normalise != "dataset":
        data.append(spec.recipe.normalise)  # another data set's mean and deviation
    return (
        _Part("module", tuple(("module", name) for name in modules)),
        _Part("backbone", (("backbone", spec.model.backbone),)),
        _Part("data", tuple(("data", name) for name in data)),
        _Part(_EVERY_RUN.name, (("task", spec.data.facts.task),)),
    )


def _source(table: Registry, name: str) -> Source:
    return source_of(split_target(table[name].target)[0])


def _declared(part: _Part) -> list[str]:
    """Return what the names that installed packages declare stand for, which may change."""
    entries = [_TABLES[table][name] for table, name in part.named]
    return [split_target(entry.target)[1] for entry in entries if entry.distribution]

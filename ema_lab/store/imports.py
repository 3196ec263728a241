"""Direct and indirect imports of a file, read from the syntax trees without importing anything."""

import ast
import importlib.util
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from itertools import chain
from pathlib import Path

from ema_lab.registry.signature import source_file
from ema_lab.store.syntax import (
    PACKAGE,
    TARGET,
    Imports,
    is_type_checking,
    named_by,
    package_syntax,
)

PACKAGE_FOLDER = Path(__file__).resolve().parents[1]
INSTALLED = {"site-packages", "dist-packages"}  # folders of unrelated packages
Read = Callable[[Path], str]


@dataclass(frozen=True)
class Source:
    """Python file with its dotted module name.

    Attributes:
        path: The file.
        name: Dotted module name, relative to `root`.
        root: Folder on Python's path in which the file's imports are resolved.
    """

    path: Path
    name: str
    root: Path

    @cached_property
    def in_package(self) -> bool:
        """Whether the file belongs to this package."""
        return self.root == PACKAGE_FOLDER.parent and self.name.partition(".")[0] == PACKAGE

    @cached_property
    def package_path(self) -> str:
        """The path inside this package, such as `data/load.py`; empty for a user's file."""
        return self.path.relative_to(self.root / PACKAGE).as_posix() if self.in_package else ""

    @cached_property
    def package(self) -> str:
        """The package against which the file's relative imports resolve."""
        return self.name if self.path.name == "__init__.py" else self.name.rpartition(".")[0]


def source_of(module: str) -> Source:
    """Return the source of a dotted module name.

    Raises:
        SpecError: If no file has that name.
    """
    if sources := _resolved(module, None):
        return sources[0]
    path = source_file(module)
    above = len(module.split(".")) - (path.name != "__init__.py")
    return Source(path, module, path.parents[above])


def closure(roots: Iterable[Source], read: Read, is_excluded: Callable[[Source], bool]) -> set[Source]:
    """Return the roots and all files that they import, inside the package or beside a user's file.

    Args:
        roots: Files from which the search starts.
        read: Returns a file's text.
        is_excluded: Predicate for files that are neither returned nor followed.

    Raises:
        OSError: If a file cannot be read.
        SyntaxError: If a file is not valid Python.
    """
    reached: set[Source] = set()
    waiting = [source for source in roots if not is_excluded(source)]
    while waiting:
        source = waiting.pop()
        if source not in reached:
            reached.add(source)
            waiting += [item for item in _imported(source, read) if not is_excluded(item)]
    return reached


def imported_from_elsewhere(sources: Iterable[Source], read: Read) -> dict[str, Path]:
    """Return the modules that a user's files import from elsewhere on Python's path, with their files.

    They belong to no closure. The standard library and installed packages do not count, but a package that
    is installed as editable does.
    """
    found: dict[str, Path] = {}
    for source in sources:
        if source.in_package or source.root.name in INSTALLED:
            continue
        for level, name in imported_names(read(source.path)):
            root = name.partition(".")[0]
            if level or root in found or _resolved(root, source):
                continue
            path = _uninstalled_file(root)
            if path is not None and not path.is_relative_to(source.root.resolve()):
                found[root] = path
    return found


def _uninstalled_file(name: str) -> Path | None:
    """Return the file of a top-level module, without importing it; None for an installed or absent one."""
    if name == PACKAGE or name in sys.stdlib_module_names:
        return None
    with suppress(ImportError, ValueError):
        if (spec := importlib.util.find_spec(name)) is not None:
            places = [*filter(None, [spec.origin]), *(spec.submodule_search_locations or ())]
            path = Path(places[0]).resolve() if places else None
            return path if path is not None and not INSTALLED.intersection(path.parts) else None
    return None


def _imported(source: Source, read: Read) -> Iterable[Source]:
    text = read(source.path)
    if source.in_package:
        return _imported_in_package(source, text)
    # Python first runs each enclosing package's __init__.py; those of this package compute nothing.
    around = source.name.split(".")[:-1]
    enclosing = (_look_up(around[: size + 1], source.root) for size in range(len(around)))
    return chain(_named_in(source, imported_names(text)), *enclosing)


@lru_cache(maxsize=4096)
def _imported_in_package(source: Source, text: str) -> tuple[Source, ...]:
    """Return what a file of this package imports; see `_package_source`."""
    return tuple(_named_in(source, package_syntax(text)[1]))


def _named_in(source: Source, imports: Imports) -> Iterator[Source]:
    for level, name in imports:
        package = source.package.split(".") if source.package else []
        above = package[: len(package) + 1 - level] if level else []
        yield from _resolved(".".join([*above, *([name] if name else [])]), source)


@lru_cache(maxsize=4096)
def imported_names(text: str) -> Imports:
    """Return the level (0: absolute) and the dotted name of each import, also of those inside functions.

    `from a import b` gives `a` and `a.b`, because `b` may be a module. Imports under `if TYPE_CHECKING` never
    run and do not count. A registry target such as "package.module:Name" counts as a lazy import.
    """
    names: dict[tuple[int, str], None] = {}
    waiting: list[ast.AST] = [ast.parse(text)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            names |= dict.fromkeys(named_by(node))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and TARGET.fullmatch(node.value):
            names[0, node.value.partition(":")[0]] = None
        elif isinstance(node, ast.If) and is_type_checking(node):
            waiting += node.orelse
            continue
        waiting += ast.iter_child_nodes(node)
    return tuple(names)


def _resolved(name: str, importer: Source | None) -> list[Source]:
    """Return the file of an imported name; empty for a module of another distribution."""
    parts = name.split(".")
    if parts[0] == PACKAGE:
        return _package_source(name)
    if importer is None or importer.in_package or not parts[0]:
        return []
    if importer.root.name in INSTALLED and parts[0] != importer.name.partition(".")[0]:
        return []
    beside = importer.path.parent  # the user may have put this folder on Python's path
    return _look_up(parts, importer.root) or ([] if beside == importer.root else _look_up(parts, beside))


@cache
def _package_source(name: str) -> list[Source]:
    """Look up a module of this package, whose files neither come nor go while a process runs."""
    return _look_up(name.split("."), PACKAGE_FOLDER.parent)


def _look_up(parts: list[str], root: Path) -> list[Source]:
    base = root.joinpath(*parts)
    candidates = (base / "__init__.py", base.with_name(f"{base.name}.py"))
    return [Source(path, ".".join(parts), root) for path in candidates if path.is_file()][:1]

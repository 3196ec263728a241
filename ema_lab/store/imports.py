"""Files that a file imports, directly or not, found in the syntax trees: nothing is imported."""

import ast
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ema_lab.registry.signature import source_file
from ema_lab.store.syntax import PACKAGE, TARGET, is_type_checking

PACKAGE_FOLDER = Path(__file__).resolve().parents[1]
INSTALLED = {"site-packages", "dist-packages"}  # folders whose packages are no neighbours of each other
Read = Callable[[Path], str]


@dataclass(frozen=True)
class Source:
    """A Python file and the dotted name that it is imported by.

    Attributes:
        path: The file.
        name: Its dotted name, counted from `root`.
        root: The folder that its imports are looked up in.
    """

    path: Path
    name: str
    root: Path

    @property
    def ours(self) -> bool:
        """Whether the file belongs to this package."""
        return self.root == PACKAGE_FOLDER.parent and self.name.partition(".")[0] == PACKAGE

    @property
    def place(self) -> str:
        """The file's path inside the package, such as `data/load.py`."""
        return self.path.relative_to(self.root / PACKAGE).as_posix() if self.ours else ""

    @property
    def package(self) -> str:
        """The dotted name that relative imports count from."""
        return self.name if self.path.name == "__init__.py" else self.name.rpartition(".")[0]


def source_of(module: str) -> Source:
    """Return the source of a dotted module name.

    Raises:
        SpecError: If there is no such file.
    """
    if ours := _found(module, None):
        return ours[0]
    path = source_file(module)
    above = len(module.split(".")) - (path.name != "__init__.py")
    return Source(path, module, path.parents[above])


def closure(roots: Iterable[Source], read: Read, left_out: Callable[[Source], bool]) -> set[Source]:
    """Return the roots and all that they import, inside the package or beside themselves.

    Args:
        roots: Where to begin.
        read: Returns a file's text.
        left_out: Tells which files are neither returned nor followed.

    Raises:
        OSError: If a file cannot be read.
        SyntaxError: If a file is no Python.
    """
    reached: set[Source] = set()
    waiting = [source for source in roots if not left_out(source)]
    while waiting:
        source = waiting.pop()
        if source not in reached:
            reached.add(source)
            waiting += [found for found in _imported(source, read) if not left_out(found)]
    return reached


def _imported(source: Source, read: Read) -> Iterator[Source]:
    for level, name in imported_names(read(source.path)):
        package = source.package.split(".") if source.package else []
        above = package[: len(package) + 1 - level] if level else []
        yield from _found(".".join([*above, *([name] if name else [])]), source)
    if not source.ours:  # Python runs the packages around a file first; ours compute nothing
        around = source.name.split(".")[:-1]
        for size in range(len(around)):
            yield from _look_up(around[: size + 1], source.root)


@lru_cache(maxsize=4096)
def imported_names(text: str) -> tuple[tuple[int, str], ...]:
    """Return the level (0: absolute) and the dotted name of all that a text imports, functions included.

    Of `from a import b` that is `a` and `a.b`, which may be a module or not. Imports under
    `if TYPE_CHECKING` never run, so that they do not count. A target such as "package.module:Name" in
    a table of ours is an import too, which waits until it is needed.
    """
    found: dict[tuple[int, str], None] = {}
    waiting: list[ast.AST] = [ast.parse(text)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            found |= dict.fromkeys((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            prefix = f"{node.module}." if node.module else ""
            names = [node.module or "", *(f"{prefix}{alias.name}" for alias in node.names)]
            found |= dict.fromkeys((node.level, name) for name in names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and TARGET.fullmatch(node.value):
            found[0, node.value.partition(":")[0]] = None
        elif isinstance(node, ast.If) and is_type_checking(node):
            waiting += node.orelse
            continue
        waiting += ast.iter_child_nodes(node)
    return tuple(found)


def _found(name: str, importer: Source | None) -> list[Source]:
    """Return the files behind an imported name; none for another distribution's."""
    parts = name.split(".")
    if parts[0] == PACKAGE:
        return _look_up(parts, PACKAGE_FOLDER.parent)
    if importer is None or importer.ours or not parts[0]:
        return []
    if importer.root.name in INSTALLED and parts[0] != importer.name.partition(".")[0]:
        return []
    beside = importer.path.parent  # for a folder that the user puts on Python's path
    return _look_up(parts, importer.root) or ([] if beside == importer.root else _look_up(parts, beside))


def _look_up(parts: list[str], root: Path) -> list[Source]:
    base = root.joinpath(*parts)
    candidates = (base / "__init__.py", base.with_name(f"{base.name}.py"))
    return [Source(path, ".".join(parts), root) for path in candidates if path.is_file()][:1]

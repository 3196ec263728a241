"""Lookup of definition files: by path, below the current folder, or bundled with the package."""

from collections.abc import Iterable
from pathlib import Path

from ema_lab.errors import UnknownNameError
from ema_lab.registry.registry import unknown_name

_PACKAGE = Path(__file__).resolve().parents[1]
# A wheel carries the definitions inside the package; an editable install finds them beside it.
BUNDLED = _PACKAGE / "bundled" if (_PACKAGE / "bundled").is_dir() else _PACKAGE.parent
BUNDLED_FOLDERS = tuple(BUNDLED / kind for kind in ("ablations", "reports", "sweeps"))

NOUNS = {
    "ablations/recipes": "recipe",
    "reports/published": "file of published numbers",
}  # others: the folder's


def find_definition(kind: str, name: str) -> Path:
    """Return the file of a definition: NAME as a path, then ./KIND/NAME.yaml, then the bundled file.

    Args:
        kind: Folder of the definition: "ablations", "ablations/recipes", "reports" or "sweeps".
        name: Path or name of the definition.

    Raises:
        UnknownNameError: If no file matches. The message lists the known names.
    """
    direct = Path(name)
    if direct.suffix in {".yaml", ".yml"} or direct.is_file():
        if direct.is_file():
            return direct
        known = sorted(map(str, direct.parent.glob("*.yaml"))) or map(str, definitions(kind).values())
        raise UnknownNameError(f"{name}: no such file; {unknown_name('file', name, known)}")
    for folder in (Path(kind), BUNDLED / kind):
        if (folder / f"{name}.yaml").is_file():
            return folder / f"{name}.yaml"
    raise missing_definition(NOUNS.get(kind, kind.removesuffix("s")), name, definitions(kind))


def missing_definition(noun: str, name: str, known: Iterable[str]) -> UnknownNameError:
    """Return the error for a name without a definition. It points out a file here that has that name."""
    here = Path(f"{name}.yaml")
    if here.is_file():
        return UnknownNameError(f"no {noun} is named {name!r}; did you mean the file {here}?")
    return UnknownNameError(unknown_name(noun, name, known))


def definitions(kind: str) -> dict[str, Path]:
    """Return all definition files of a kind by name. Local files hide bundled files of the same name."""
    files: dict[str, Path] = {}
    for folder in (BUNDLED / kind, Path(kind)):
        files |= {file.stem: file for file in sorted(folder.glob("*.yaml"))}
    return dict(sorted(files.items()))

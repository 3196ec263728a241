"""README and pages of `docs/` as data: their blocks of code, commands, links and headings.

Tests run blocks named sh, yaml, python and text. Blocks named bash, yml and py are others' code or
part of a file.
"""

import importlib.util
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
FIRST = ("README.md", "tutorial.md", "ablations.md", "own.md", "reports.md")  # later pages use their files
PAGES = sorted(
    [README, *DOCS.glob("*.md")],
    key=lambda path: (path.name not in FIRST, (*FIRST, path.name).index(path.name)),
)
FENCE = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """Block of code of a page."""

    page: str
    language: str
    text: str

    @property
    def file(self) -> str:
        """File that a comment in the first line names, or nothing."""
        named = re.match(r"# (\S+\.yaml)\n", self.text)
        return named.group(1) if named else ""

    @property
    def commands(self) -> list[list[str]]:
        """Commands of a block of shell, without comments."""
        return [words for line in self.text.splitlines() if (words := shlex.split(line, comments=True))]


@cache
def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def blocks(path: Path, *languages: str) -> list[Block]:
    found = [Block(path.name, language, text) for language, text in FENCE.findall(text_of(path))]
    return [block for block in found if not languages or block.language in languages]


def all_blocks(*languages: str) -> list[Block]:
    return [block for path in PAGES for block in blocks(path, *languages)]


def prose(path: Path) -> str:
    return FENCE.sub("", text_of(path))


def spans(path: Path) -> list[str]:
    """Return a page's code within lines, each in one line."""
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose(path))]


def links(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (file, anchor) of a page's links and pictures; either may be empty."""
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(path)):
        if not re.match(r"\w+://", target):
            file, _, anchor = target.partition("#")
            yield file, anchor


def anchors(markdown: str) -> set[str]:
    """Return the anchors of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", markdown), re.MULTILINE)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}


@cache
def generator() -> ModuleType:
    """Return the module that generates the reference pages."""
    spec = importlib.util.spec_from_file_location("reference_pages", DOCS / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def generated(page: str) -> str:
    """Return one generated page, such as `reference/columns.md`."""
    text: str = generator().PAGES[page]()
    return text

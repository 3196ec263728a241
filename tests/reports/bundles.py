"""Bundles of the report `tiny`, and what tests change in them."""

import hashlib
from pathlib import Path

from ema_lab.reports.bundle.bundle import write_bundle
from ema_lab.specs.report import load_report
from ema_lab.store.store import RunStore


def bundle() -> None:
    """Write the bundle of the report `tiny`."""
    path = Path("reports/tiny.yaml")
    write_bundle(load_report(path), Path("paper.zip"), RunStore("runs"), path)


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def rewrite_sums(folder: Path) -> None:
    """Make the checksums fit, as somebody would who wants to hide a change."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "SHA256SUMS")
    names = [path.relative_to(folder).as_posix() for path in paths]
    lines = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    (folder / "SHA256SUMS").write_text("".join(lines))

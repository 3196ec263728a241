"""The running package as a wheel, so that who reproduces a report runs the code that made it.

It is put together from the installed files, editable or not; equal files give equal bytes.
"""

import base64
import hashlib
import io
import zipfile
from collections.abc import Iterator, Mapping
from importlib.metadata import distribution
from pathlib import Path

from ema_lab.reports.bundle.unpack import require_modest
from ema_lab.specs.definition import BUNDLED

PACKAGE = Path(__file__).resolve().parents[2]
DATE = (1980, 1, 1, 0, 0, 0)  # the first that a zip file can hold
KINDS = ("ablations", "reports", "sweeps")  # as pyproject.toml has them put into the package
TAG = "py3-none-any"
WHEEL = f"Wheel-Version: 1.0\nGenerator: ema-lab\nRoot-Is-Purelib: true\nTag: {TAG}\n"


def build_wheel() -> tuple[str, bytes]:
    """Return the file name and the content of a wheel of the running package."""
    installed = distribution("ema-lab")
    info = f"ema_lab-{installed.version}.dist-info"
    files = package_files()
    for name in ("METADATA", "entry_points.txt"):
        files[f"{info}/{name}"] = (installed.read_text(name) or "").encode()
    for path in installed.files or ():
        if path.parts[1:2] == ("licenses",):
            files[f"{info}/{'/'.join(path.parts[1:])}"] = path.read_binary()
    files[f"{info}/WHEEL"] = WHEEL.encode()
    files[f"{info}/RECORD"] = _record(files, f"{info}/RECORD")
    return f"ema_lab-{installed.version}-{TAG}.whl", zipped(files)


def package_files() -> dict[str, bytes]:
    """Return the files of the running package by their name in a wheel, with the bundled definitions."""
    folders = {"ema_lab": PACKAGE} | {f"ema_lab/bundled/{kind}": BUNDLED / kind for kind in KINDS}
    return {
        name: path.read_bytes() for place, folder in folders.items() for name, path in _below(place, folder)
    }


def wheel_files(wheel: bytes) -> dict[str, bytes]:
    """Return the files that a wheel holds, by name, but for what it says of itself.

    Raises:
        zipfile.BadZipFile: If it is none.
        StoreError: If it is too large when unpacked.
    """
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        require_modest(archive, "the wheel", len(wheel))
        return {name: archive.read(name) for name in archive.namelist() if ".dist-info/" not in name}


def _below(place: str, folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.is_file() and not any(part == "__pycache__" or part.startswith(".") for part in parts):
            yield "/".join([place, *parts]), path


def _record(files: Mapping[str, bytes], own: str) -> bytes:
    def line(name: str, content: bytes) -> str:
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        return f"{name},sha256={digest},{len(content)}\n"

    return "".join([*(line(*item) for item in sorted(files.items())), f"{own},,\n"]).encode()


def zipped(files: Mapping[str, bytes]) -> bytes:
    """Return a zip file whose bytes depend on nothing but the files' names and content."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in sorted(files.items()):
            entry = zipfile.ZipInfo(name, DATE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (0o755 if name.endswith(".sh") else 0o644) << 16
            archive.writestr(entry, data)
    return content.getvalue()

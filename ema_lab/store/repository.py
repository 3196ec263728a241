"""Git repositories that the sources of a run lie in: commit, and a hash of what is not committed."""

import hashlib
import os
import subprocess
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

from ema_lab.store.imports import INSTALLED, PACKAGE_FOLDER, Source

GIT = ("git", "-c", "core.fsmonitor=false")  # reading a repository starts nothing that it names
SECONDS = 30


def repositories(sources: Iterable[Source]) -> dict[str, dict[str, str | None]]:
    """Return commit and dirty hash of every repository that a source lies in, by its folder's name.

    Of this package's own the whole package counts, of a user's the files that the run uses. A second
    repository of one name is called `name (2)`. No path of this machine is told.
    """
    files: dict[Path, list[str]] = {}
    for path in (PACKAGE_FOLDER, *sorted(source.path for source in sources if not source.ours)):
        if (root := _root(path)) is not None:
            files.setdefault(root, []).append(path.relative_to(root).as_posix())
    found: dict[str, dict[str, str | None]] = {}
    for root, names in sorted(files.items()):
        same = sum(other.name == root.name for other in files if other < root)
        name = f"{root.name} ({same + 1})" if same else root.name
        found[name] = _state(root, tuple(names))
    return found


def _root(path: Path) -> Path | None:
    """Return the top of the working tree around a path; installed packages belong to none."""
    if INSTALLED.intersection(path.parts):
        return None
    return next((folder for folder in path.parents if (folder / ".git").exists()), None)


@cache
def _state(root: Path, names: tuple[str, ...]) -> dict[str, str | None]:
    """Return a repository's commit and a hash of its changes, as it was when it was first asked for."""
    try:
        head = _git(root, "rev-parse", "HEAD")
        changes = (
            _git(root, "diff", "--no-ext-diff", "--no-textconv", "--binary", "HEAD", "--", *names) or b""
        )
        kinds = ["--others", "--exclude-standard"] + ([] if head else ["--cached"])
        listed = _git(root, "ls-files", "-z", *kinds, "--", *names) or b""
        for name in sorted(filter(None, listed.decode(errors="surrogateescape").split("\0"))):
            changes += os.fsencode(name) + b"\0" + (root / name).read_bytes()
    except (OSError, subprocess.TimeoutExpired):
        return {"commit": None, "dirty_sha256": None}
    dirty = hashlib.sha256(changes).hexdigest()[:16] if changes else None
    return {"commit": head.decode().strip() if head else None, "dirty_sha256": dirty}


def _git(root: Path, *arguments: str) -> bytes | None:
    """Return what git prints; None where it refuses."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command: Sequence[str] = (*GIT, "-C", str(root), *arguments)
    done = subprocess.run(command, capture_output=True, check=False, timeout=SECONDS, env=plain)
    return done.stdout if done.returncode == 0 else None

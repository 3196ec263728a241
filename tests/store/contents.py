"""Files of a folder, to see whether something has changed."""

from pathlib import Path


def content(folder: Path | str) -> dict[str, bytes | None]:
    """Return the bytes of each file below a folder, without locks; folders are None."""
    paths = sorted(Path(folder).rglob("*"))
    return {
        str(path): path.read_bytes() if path.is_file() else None
        for path in paths
        if ".locks" not in str(path)
    }

"""Output folders that a user names."""

from pathlib import Path

from ema_lab.errors import SpecError


def make_folder(path: Path) -> None:
    """Create an output folder.

    Raises:
        SpecError: If the folder cannot be created.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "is a file" if path.is_file() else f"cannot be made: {error.strerror}"
        raise SpecError(f"--out must be a folder, but {path} {reason}") from None

"""Check of a data set before anything is trained on it."""

from pathlib import Path

from ema_lab.specs.run import DataSpec


def check_files(data: DataSpec, root: Path) -> None:
    """Load a data set, downloaded where it is absent, and check its targets and that its files are whole.

    Raises:
        DataError: If it cannot be loaded, the task cannot learn from the targets, or a file is broken.
    """
    from ema_lab.data.whole_files import check_whole
    from ema_lab.tasks.task import check_data

    check_data(data, root)
    check_whole(data, root)

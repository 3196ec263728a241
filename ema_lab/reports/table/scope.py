"""Notes on what ±, intervals and tests generalise to: seeds, test images, or both."""

from collections.abc import Sequence

from ema_lab.tables.cell import OVER_SEEDS, TableCell


def scope_notes(cells: Sequence[TableCell], test_set: str = "this test set") -> list[str]:
    """Return a note that ±, intervals and tests over seeds hold for the fixed test set, if cells have any.

    Args:
        cells: All cells of the table.
        test_set: Name of the test set in the note.
    """
    if not any(cell.scope == OVER_SEEDS or (cell.test and not cell.images) for cell in cells):
        return []
    where = OVER_SEEDS.replace("this test set", test_set)
    if any(cell.images or cell.scope not in {None, OVER_SEEDS} for cell in cells):
        return [f"All other ±, intervals and tests are {where}."]
    return [f"All ±, intervals and tests are {where}: other test images would add to them."]

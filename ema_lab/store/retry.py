"""Failed runs made pending again, by forgiving their attempts."""

from ema_lab.store.store import RunStore


def forgive(store: RunStore, run_id: str) -> bool:
    """Take the failed and killed attempts at a run out of the count; they stay on file.

    Returns False, and changes nothing, if a process works on the run.
    """
    with store.claim(run_id) as claimed:
        if not claimed:
            return False
        for attempt in store.facts(run_id).attempts:
            if attempt.counts:
                store.change(run_id, attempt, forgiven=True)
        return True

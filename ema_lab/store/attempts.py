"""Endings of attempts that their own process did not write: killed, interrupted, timed out, forgiven."""

from collections.abc import Callable, Iterable

from ema_lab.store.killed import kill_reason
from ema_lab.store.record import Attempt
from ema_lab.store.store import RunStore


def note_killed(store: RunStore, run_id: str, reason: str | None = None) -> None:
    """Give a reason to the last attempt if it has no outcome. The caller holds the lock: it is over."""
    attempts = store.facts(run_id).attempts
    if attempts and attempts[-1].outcome is None and attempts[-1].reason is None:
        store.change(run_id, attempts[-1], reason=reason or kill_reason(attempts[-1]))


def note_all_killed(store: RunStore, run_ids: Iterable[str]) -> None:
    """Give a reason to the last attempts of runs whose worker may have died."""
    for run_id in run_ids:
        with store.claim(run_id) as claimed:
            if claimed:
                note_killed(store, run_id)


def end_interrupted(
    store: RunStore,
    run_id: str,
    session: str,
    ours: Callable[[Attempt], bool] = lambda attempt: True,
) -> None:
    """End the last attempt as interrupted, which does not count, if a session began it and it is over.

    Older attempts and those of other processes keep what they have: they may have been killed.

    Args:
        store: The store.
        run_id: The run.
        session: The session that the user interrupted.
        ours: Which attempts of the session count as interrupted.
    """
    with store.claim(run_id) as claimed:
        attempts = store.facts(run_id).attempts if claimed else ()
        last = attempts[-1] if attempts else None
        if last and last.session == session and last.outcome is None and last.reason is None and ours(last):
            store.end(run_id, last, "interrupted")


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

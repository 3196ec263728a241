"""Attempt outcomes that another process writes: killed, interrupted or forgiven attempts."""

from collections.abc import Callable, Iterable

from ema_lab.store.killed import kill_reason
from ema_lab.store.record import Attempt
from ema_lab.store.store import RunStore


def note_killed(store: RunStore, run_id: str, reason: str | None = None) -> None:
    """Record why the last attempt was killed, if it has no outcome.

    The caller holds the run's lock. A free lock proves that the process of the attempt has ended.
    """
    attempts = store.facts(run_id).attempts
    if attempts and attempts[-1].outcome is None and attempts[-1].reason is None:
        store.change(run_id, attempts[-1], reason=reason or kill_reason(attempts[-1]))


def note_all_killed(store: RunStore, run_ids: Iterable[str]) -> None:
    """Record why the last attempts of runs were killed; skip runs that another process holds."""
    for run_id in run_ids:
        with store.claim(run_id) as claimed:
            if claimed:
                note_killed(store, run_id)


def end_interrupted(
    store: RunStore,
    run_id: str,
    session: str,
    belongs: Callable[[Attempt], bool] = lambda attempt: True,
) -> None:
    """End a session's last attempt as interrupted, which does not count towards the attempt limit.

    Attempts of other sessions keep their outcome: they may have been killed, which does count.

    Args:
        store: The store.
        run_id: The run.
        session: The session that the user interrupted.
        belongs: Predicate that selects the interrupted attempts of the session.
    """
    with store.claim(run_id) as claimed:
        attempts = store.facts(run_id).attempts if claimed else ()
        last = attempts[-1] if attempts else None
        if (
            last
            and last.session == session
            and last.outcome is None
            and last.reason is None
            and belongs(last)
        ):
            store.end(run_id, last, "interrupted")


def forgive(store: RunStore, run_id: str) -> bool:
    """Stop counting a run's failed and killed attempts towards the attempt limit; keep their files.

    Returns:
        False, with nothing changed, if another process holds the run.
    """
    with store.claim(run_id) as claimed:
        if not claimed:
            return False
        for attempt in store.facts(run_id).attempts:
            if attempt.counts:
                store.change(run_id, attempt, forgiven=True)
        return True

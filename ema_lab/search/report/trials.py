"""A search's trials as flat objects and as a Markdown table."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ema_lab.errors import StoreError
from ema_lab.search.history import Ended, History, num_repeated
from ema_lab.search.objective import Objective
from ema_lab.search.report.naming import label, short_keys, value_words
from ema_lab.specs.metric import COSTS
from ema_lab.store.layout import SUPERSEDED
from ema_lab.store.store import RunStore
from ema_lab.tables.table import SIGNS, Flag

PLAIN = str | int | float
METRIC_DIGITS = 2


def trial_rows(history: History, trials: Sequence[Ended], *, short: bool = False) -> list[dict[str, Any]]:
    """Return trials as flat objects with the real value of each parameter, by its dotted key.

    Values that are lists or mappings are JSON. `short`: numbers as a table shows them, and what is stale only
    where something is.
    """
    front = {one.number for one in history.best()} if len(history.objectives) > 1 else None
    has_stale = not short or any(one.stale for one in trials)
    rows = [_row(one, history, front, short=short) for one in trials]
    return rows if has_stale else [{key: row[key] for key in row if key != "stale"} for row in rows]


def _row(one: Ended, history: History, front: set[int] | None, *, short: bool) -> dict[str, Any]:
    objectives = history.objectives
    values = one.values or (None,) * len(objectives)
    keys = [parameter.key for parameter in history.sweep.parameters]
    return {
        "trial": one.number,
        "status": "warm" if one.warm else one.state,
        "stale": " ".join(one.stale) or None,
        **{each.name: value for each, value in zip(objectives, values, strict=True)},
        **({} if front is None else {"pareto": one.number in front}),
        **{key: _plain(one.choice[key], short) if key in one.choice else None for key in keys},
        "run_ids": " ".join(one.run_ids),
    }


def _plain(value: Any, short: bool) -> str | int | float:
    return value if isinstance(value, PLAIN) and not short else value_words(value)


def trial_records(history: History, trials: Sequence[Ended]) -> list[dict[str, Any]]:
    """Return trials with all that is known of them, unrounded.

    `wall_seconds` is the trial's own time in the search: none for one that the store gave, next to none
    where its runs were there before. `run_wall_seconds` is the time of its runs, where all are finished.
    """
    rows = trial_rows(history, trials)
    return [
        row
        | {
            "seeds": " ".join(map(str, _seeds(one, history.store))),
            "wall_seconds": one.seconds,
            "run_wall_seconds": _run_seconds(one, history.store),
            "message": one.message,
        }
        for row, one in zip(rows, trials, strict=True)
    ]


def _seeds(one: Ended, store: RunStore) -> Iterator[int]:
    """Yield the seeds whose runs the store knows: a pruned trial may not have come to all."""
    for run_id in one.run_ids:
        try:
            yield store.spec(run_id).seed
        except StoreError:
            continue


def _run_seconds(one: Ended, store: RunStore) -> float | None:
    records = [store.facts(run_id).record for run_id in one.run_ids]
    found = [record.wall_seconds for record in records if record is not None and record.status == "done"]
    if not found or len(found) < len(records):
        return None
    return sum(found)


def counts_words(history: History) -> str:
    """Return `12 finished, 3 pruned, 1 failed, 2 learned from the store`."""
    counts = history.counts()
    words = f"{counts.done} finished, {counts.pruned} pruned, {counts.failed} failed"
    others = {"running": counts.running, "waiting": counts.waiting, "learned from the store": counts.warm}
    trials = history.trials()
    others["stale"] = sum(bool(one.stale) for one in trials)
    words += "".join(f", {count} {name}" for name, count in others.items() if count)
    repeats = repeats_words(trials)
    return f"{words}; {repeats}" if repeats else words


def repeats_words(trials: Sequence[Ended]) -> str:
    """Return how many trials drew a choice that was known before; nothing where none did."""
    own = sum(not one.warm for one in trials)
    count = num_repeated(trials)
    return f"{count} of {own} trials repeated known choices" if count else ""


def stale_words(trials: Sequence[Ended]) -> str:
    """Return how many trials have values of an earlier source, and why; nothing where none has."""
    found = [one.stale for one in trials if one.stale]
    if not found:
        return ""
    parts = dict.fromkeys(part for stale in found for part in stale)
    changed = ", ".join(part for part in parts if part != SUPERSEDED)
    why = [f"the source of {changed} has changed since"] if changed else []
    why += ["results were put aside and are not there again"] if SUPERSEDED in parts else []
    count = "1 trial is stale" if len(found) == 1 else f"{len(found)} trials are stale"
    return f"{count}: {'; '.join(why)}"


def seeds_words(history: History) -> str:
    """Return of which runs a trial's value is made."""
    seeds = history.sweep.seeds
    mean = f"mean over seeds {', '.join(map(str, seeds))}" if len(seeds) > 1 else f"seed {seeds[0]} alone"
    return f"{mean}, validation split"


def trials_markdown(history: History) -> str:
    """Return all trials as a Markdown table, the best first, with a caption that says what they are."""
    keys = short_keys([parameter.key for parameter in history.sweep.parameters])
    several = len(history.objectives) > 1
    header = ["Trial", "Status", *(one.label for one in history.objectives)]
    header += [*(["Pareto front"] if several else []), *keys.values(), "Runs", "Why"]
    right = len(history.objectives)
    rules = ["---:", "---", *["---:"] * right, *["---"] * (len(header) - 2 - right)]
    front = {one.number for one in history.best()}
    lines = [header, rules]
    for one in history.ranked():
        lines.append(
            [
                str(one.number),
                "warm" if one.warm else one.state,
                *_numbers(one, history.objectives),
                *(["yes" if one.number in front else ""] if several else []),
                *(label(one.choice[key]) if key in one.choice else "" for key in keys),
                " ".join(one.run_ids),
                one.message,
            ]
        )
    table = "\n".join(f"| {' | '.join(map(_escaped, line))} |" for line in lines)
    order = "the Pareto front first" if several else "the best first"
    return f"**{history.sweep.name}: trials, {order}**\n\n{table}\n\n{_caption(history, keys)}\n"


def _caption(history: History, keys: Mapping[str, str]) -> str:
    lines = [
        f"Study {history.study.study_name}: {counts_words(history)}.",
        f"Values: {seeds_words(history)}. A pruned trial has none: it was not trained to its end.",
    ]
    if stale := stale_words(history.trials()):
        lines.append(f"{SIGNS[Flag.STALE]}: {stale}.")
    if history.counts().warm:
        lines.append("warm: learned from finished runs of the store, not tried by this search.")
    named = ", ".join(f"{short} is {key}" for key, short in keys.items() if short != key)
    return "  \n".join([*lines, *([f"Parameters: {named}."] if named else [])])


def _numbers(one: Ended, objectives: Sequence[Objective]) -> list[str]:
    if one.values is None:
        return ["n/a"] * len(objectives)
    sign = SIGNS[Flag.STALE] if one.stale else ""
    return [
        f"{value / each.scale:,.{METRIC_DIGITS if each.is_metric else COSTS[each.name].digits}f}{sign}"
        for each, value in zip(objectives, one.values, strict=True)
    ]


def _escaped(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())

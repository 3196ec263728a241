"""Trials of a search as flat objects and as a Markdown table."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ema_lab.errors import StoreError
from ema_lab.search.history import EndedTrial, History, num_repeated
from ema_lab.search.objective import Objective
from ema_lab.search.optimism import num_compared, optimism_text
from ema_lab.search.report.labels import label, short_keys, value_text
from ema_lab.specs.metric import COSTS
from ema_lab.store.layout import SUPERSEDED
from ema_lab.store.store import RunStore
from ema_lab.tables.cell import SIGNS, Flag
from ema_lab.wording import are, number_of

PLAIN = str | int | float
METRIC_DIGITS = 2


def trial_rows(
    history: History, trials: Sequence[EndedTrial], *, short: bool = False
) -> list[dict[str, Any]]:
    """Return trials as flat objects with the real value of each parameter, by its dotted key.

    Lists and mappings become JSON. `short` rounds numbers as tables do, and drops the stale column if no
    trial is stale.
    """
    front = {trial.number for trial in history.best()} if len(history.objectives) > 1 else None
    has_stale = not short or any(trial.stale for trial in trials)
    rows = [_row(trial, history, front, short=short) for trial in trials]
    return rows if has_stale else [{key: row[key] for key in row if key != "stale"} for row in rows]


def _row(trial: EndedTrial, history: History, front: set[int] | None, *, short: bool) -> dict[str, Any]:
    objectives = history.objectives
    values = trial.values or (None,) * len(objectives)
    keys = [parameter.key for parameter in history.sweep.parameters]
    return {
        "trial": trial.number,
        "status": "warm" if trial.warm else trial.state,
        "stale": " ".join(trial.stale) or None,
        **{objective.name: value for objective, value in zip(objectives, values, strict=True)},
        **({} if front is None else {"pareto": trial.number in front}),
        **{key: _cell_value(trial.choice[key], short) if key in trial.choice else None for key in keys},
        "run_ids": " ".join(trial.run_ids),
    }


def _cell_value(value: Any, short: bool) -> str | int | float:
    return value if isinstance(value, PLAIN) and not short else value_text(value)


def trial_records(history: History, trials: Sequence[EndedTrial]) -> list[dict[str, Any]]:
    """Return trials with all known facts, unrounded.

    `wall_seconds` is the trial's own time in the search: null for a warm trial, and almost 0 if its runs
    existed before. `run_wall_seconds` is the training time of its runs, if all are finished. `best_of` is the
    number of values among which a best trial was chosen: its value is optimistic.
    """
    rows = trial_rows(history, trials)
    best, compared = {trial.number for trial in history.best()}, num_compared(history.trials())
    return [
        row
        | {
            "seeds": " ".join(map(str, _seeds(trial, history.store))),
            "wall_seconds": trial.seconds,
            "run_wall_seconds": _run_seconds(trial, history.store),
            "message": trial.message,
            "best_of": compared if trial.number in best else None,
        }
        for row, trial in zip(rows, trials, strict=True)
    ]


def _seeds(trial: EndedTrial, store: RunStore) -> Iterator[int]:
    """Yield the seeds whose runs the store has; a pruned trial may lack some."""
    for run_id in trial.run_ids:
        try:
            yield store.spec(run_id).seed
        except StoreError:
            continue


def _run_seconds(trial: EndedTrial, store: RunStore) -> float | None:
    records = [store.facts(run_id).record for run_id in trial.run_ids]
    seconds = [record.wall_seconds for record in records if record is not None and record.status == "done"]
    if not seconds or len(seconds) < len(records):
        return None
    return sum(seconds)


def counts_text(history: History) -> str:
    """Return `12 finished, 3 pruned, 1 failed, 2 learned from the store`."""
    counts = history.counts()
    text = f"{counts.done} finished, {counts.pruned} pruned, {counts.failed} failed"
    others = {"running": counts.running, "waiting": counts.waiting, "learned from the store": counts.warm}
    trials = history.trials()
    others["stale"] = sum(bool(trial.stale) for trial in trials)
    text += "".join(f", {count} {name}" for name, count in others.items() if count)
    repeats = repeats_text(trials)
    return f"{text}; {repeats}" if repeats else text


def repeats_text(trials: Sequence[EndedTrial]) -> str:
    """Return the number of trials that repeated a known choice, as text; empty if none did."""
    own = sum(not trial.warm for trial in trials)
    count = num_repeated(trials)
    return f"{count} of {number_of(own, 'trial')} repeated known choices" if count else ""


def stale_text(trials: Sequence[EndedTrial]) -> str:
    """Return the number of trials with stale values and the reason, as text; empty if none has."""
    stale_trials = [trial.stale for trial in trials if trial.stale]
    if not stale_trials:
        return ""
    parts = dict.fromkeys(part for stale in stale_trials for part in stale)
    changed = ", ".join(part for part in parts if part != SUPERSEDED)
    why = [f"the source of {changed} has changed since"] if changed else []
    why += ["superseded results were not trained again"] if SUPERSEDED in parts else []
    number = len(stale_trials)
    return f"{number_of(number, 'trial')} {are(number)} stale: {'; '.join(why)}"


def seeds_text(history: History) -> str:
    """Return a text that names the runs over which a trial's value is the mean."""
    seeds = history.sweep.seeds
    mean = f"mean over seeds {', '.join(map(str, seeds))}" if len(seeds) > 1 else f"seed {seeds[0]} alone"
    return f"{mean}, validation split"


def trials_markdown(history: History) -> str:
    """Return all trials as a Markdown table with a caption, best first."""
    keys = short_keys([parameter.key for parameter in history.sweep.parameters])
    several = len(history.objectives) > 1
    header = ["Trial", "Status", *(objective.label for objective in history.objectives)]
    header += [*(["Pareto front"] if several else []), *keys.values(), "Runs", "Why"]
    right = len(history.objectives)
    rules = ["---:", "---", *["---:"] * right, *["---"] * (len(header) - 2 - right)]
    front = {trial.number for trial in history.best()}
    lines = [header, rules]
    for trial in history.ranked():
        lines.append(
            [
                str(trial.number),
                "warm" if trial.warm else trial.state,
                *value_texts(trial, history.objectives),
                *(["yes" if trial.number in front else ""] if several else []),
                *(label(trial.choice[key]) if key in trial.choice else "" for key in keys),
                " ".join(trial.run_ids),
                trial.message,
            ]
        )
    table = "\n".join(f"| {' | '.join(map(_escaped, line))} |" for line in lines)
    order = "the Pareto front first" if several else "the best first"
    return f"**{history.sweep.name}: trials, {order}**\n\n{table}\n\n{_caption(history, keys)}\n"


def _caption(history: History, keys: Mapping[str, str]) -> str:
    lines = [
        f"Study {history.study.study_name}: {counts_text(history)}.",
        f"Values: {seeds_text(history)}. A pruned trial has none: it was not trained to its end.",
    ]
    if optimism := optimism_text(history):
        lines.append(f"{optimism[0].upper()}{optimism[1:]}.")
    if stale := stale_text(history.trials()):
        lines.append(f"{SIGNS[Flag.STALE]}: {stale}.")
    if history.counts().warm:
        lines.append("warm: learned from finished runs of the store, not tried by this search.")
    named = ", ".join(f"{short} is {key}" for key, short in keys.items() if short != key)
    return "  \n".join([*lines, *([f"Parameters: {named}."] if named else [])])


def value_texts(trial: EndedTrial, objectives: Sequence[Objective]) -> list[str]:
    """Return the values of a trial as tables print them; `n/a` for a trial without values."""
    if trial.values is None:
        return ["n/a"] * len(objectives)
    sign = SIGNS[Flag.STALE] if trial.stale else ""
    return [
        f"{value / objective.scale:,.{digits_of(objective)}f}{sign}"
        for objective, value in zip(objectives, trial.values, strict=True)
    ]


def _escaped(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def digits_of(objective: Objective) -> int:
    """Return the number of decimals of an objective's values in tables."""
    return METRIC_DIGITS if objective.is_metric else COSTS[objective.name].digits

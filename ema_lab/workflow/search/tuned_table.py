"""Result of a tuning as tables: each row's search and winner, and the comparison of the final runs."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ema_lab.ablation.ablation import Ablation, load_ablation
from ema_lab.ablation.grid import ABSENT, value_of
from ema_lab.reports.report import build_report
from ema_lab.reports.usual import ablation_report
from ema_lab.search.optimism import num_compared
from ema_lab.search.report.labels import value_text
from ema_lab.search.tuning import RowSearch
from ema_lab.search.winner import trial_name
from ema_lab.tables.render import flat_records
from ema_lab.tables.table import Table
from ema_lab.workflow.search.tune import TuneOutcome, trial_value, tuning_caveats


@dataclass(frozen=True)
class TunedTable:
    """Tables of a tuning whose winners were written as an ablation."""

    outcome: TuneOutcome

    @cached_property
    def tuned(self) -> Ablation:
        """The tuned ablation."""
        return load_ablation(self.outcome.tuning.path)

    @cached_property
    def notes(self) -> dict[str, list[str]]:
        """Caveats about each row's winner and final runs. The tuned ablation's file repeats them."""
        outcome = self.outcome
        final_runs = {row: cells[0].spec for row, cells in self.tuned.rows().items()}
        return tuning_caveats(outcome.tuning, outcome.searches, outcome.winners, final_runs)

    @cached_property
    def comparison(self) -> Table:
        """Table of the final runs, with the caveats as notes."""
        return build_report(ablation_report(self.tuned), self.outcome.tuning.store).tables[0]

    def searches(self, *, short: bool = True) -> list[dict[str, Any]]:
        """Return one flat object per row: trials, winner, and each chosen value beside the written one.

        Args:
            short: Short parameter names and values as text.
        """
        return [self._search(search, short=short) for search in self.outcome.searches]

    def records(self) -> list[dict[str, Any]]:
        """Return one flat object per row: its search, caveats and final metrics."""
        table = self.comparison
        finals = dict(zip((row.key for row in table.rows), flat_records(table), strict=True))
        return [
            {**row, "notes": "; ".join(self.notes[row["row"]]), **finals.get(row["row"], {})}
            for row in self.searches(short=False)
        ]

    def _search(self, search: RowSearch, *, short: bool) -> dict[str, Any]:
        tuning, winner, written = self.outcome.tuning, self.outcome.winners.get(search.row), search.written
        states = [trial.state for trial in search.trials]
        metric = tuning.objective.name
        row: dict[str, Any] = {
            "row": search.row,
            **{state: states.count(state) for state in ("done", "pruned", "failed")},
            "stale trials": sum(bool(trial.stale) for trial in search.candidates),
            "trial": trial_name(winner) if winner else None,
            f"search {metric}": trial_value(winner) if winner else None,
            "best of": num_compared(search.candidates),
            f"as written {metric}": trial_value(written) if written and written.values else None,
        }
        cell = tuning.ablation.rows()[search.row][0]
        for key in (parameter.key for parameter in tuning.space.parameters):
            name = key.rpartition(".")[2] if short else key
            default = value_of(cell, key)
            chosen = winner.choice.get(key, default) if winner else ABSENT  # as written, it is the default
            row[name] = None if chosen is ABSENT else _printable(chosen, short=short)
            row[f"default {name}"] = None if default is ABSENT else _printable(default, short=short)
        return row if short else {**row, "study": search.study_name}


def _printable(value: Any, *, short: bool) -> Any:
    return value_text(value) if short or not isinstance(value, str | int | float) else value

"""Observer of the command line: prints events as lines, and shows training and searches live."""

from contextlib import ExitStack
from typing import TYPE_CHECKING

from ema_lab.cli.output import say
from ema_lab.workflow import events

if TYPE_CHECKING:
    from ema_lab.cli.progress import CheckDisplay, RunDisplay
    from ema_lab.cli.search_display import SearchDisplay


class Display:
    """Observer of events, with a live display between the start and the end of training or searching."""

    def __init__(self) -> None:
        self._live = ExitStack()
        self._runs: RunDisplay | None = None
        self._search: SearchDisplay | None = None
        self._checks: CheckDisplay | None = None

    def __call__(self, event: events.Event) -> None:
        """Print an event, or hand it to the live display."""
        is_failure = isinstance(event, events.GridEnded) and not event.outcome.ok
        say(*event.lines(), always=is_failure)
        if self._checks is not None and not isinstance(event, events.ModelChecked):
            self._checks.close()
            self._checks = None
        match event:
            case events.ModelChecked():
                from ema_lab.cli.progress import CheckDisplay

                self._checks = self._checks or CheckDisplay()
                self._checks.update(event)
            case events.TrainingStarted(tasks, store):
                from ema_lab.cli.progress import RunDisplay

                self._runs = self._live.enter_context(RunDisplay(tasks, store))
            case events.RunEnded() if self._runs is not None:
                self._runs.end(event)
            case events.TrainingProgress(progress) if self._runs is not None:
                self._runs.update(progress)
            case events.SearchStarted(study, limit):
                from ema_lab.cli.search_display import SearchDisplay

                self._search = self._live.enter_context(SearchDisplay(study, limit))
            case events.TrialEnded(trial) if self._search is not None:
                self._search.watch(trial)
            case events.SearchProgress() if self._search is not None:
                self._search.watch(None)
            case events.TrainingEnded() | events.SearchEnded():
                self._live.close()
                self._runs = self._search = None

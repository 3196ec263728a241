"""Command `log`: what happened to a run."""

from collections.abc import Iterator
from typing import Annotated

import typer

from ema_lab.cli.options import MOST, Store
from ema_lab.cli.output import put
from ema_lab.store.record import Attempt
from ema_lab.wording import number_of
from ema_lab.workflow.execution import DEFAULT_STORE
from ema_lab.workflow.look.runs import RunLog, run_log

FRAMES = 5


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(log)


def log(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="A run id, or an unambiguous prefix.")],
    lines: Annotated[int, typer.Option("--lines", min=0, max=MOST, help="Last lines of the log.")] = 20,
    full: Annotated[
        bool, typer.Option("--full", help="The whole log, and every frame of the traceback.")
    ] = False,
    store: Store = DEFAULT_STORE,
) -> None:
    """Show what happened to a run: attempts, error, log.

    Of a traceback, the frames in your own code come first, the innermost at the top.

    Example: ema-lab log 3f2a
    """
    story = run_log(run_id, store)
    put("\n".join(_lines(story, None if full else lines)))


def _lines(story: RunLog, most: int | None) -> Iterator[str]:
    named = ", ".join(map(str, story.names))
    about = named or (f"seed {story.spec.seed}, of no ablation here" if story.spec else "its spec is damaged")
    yield f"run {story.run_id}: {about}: {story.state}"
    yield from map(_attempt_line, story.attempts)
    if story.failure is not None:
        yield from ("", story.failure.sentence, f"remedy: {story.failure.remedy}")
    for frame in story.frames if most is None else story.frames[:FRAMES]:
        function = f", in {frame.function}" if frame.function else ""
        yield f"  {frame.place}{function}{'' if frame.own else ' (ema-lab)'}"
        if frame.code:
            yield f"      {frame.code}"
    if story.traceback and most is None:
        yield from ("", "traceback:", *(f"  {line}" for line in story.traceback.rstrip().splitlines()))
    shown = story.lines if most is None else story.lines[len(story.lines) - min(most, len(story.lines)) :]
    if shown:
        left = len(story.lines) - len(shown)
        hidden = f", without its first {number_of(left, 'line')} (--full)" if left else ""
        yield from ("", f"log{hidden}:")
        yield from (f"  {line}" for line in shown)


def _attempt_line(attempt: Attempt) -> str:
    end = f" until {attempt.ended}" if attempt.ended else ""
    reason = f": {attempt.reason}" if attempt.reason else ""
    outcome = attempt.outcome or "no outcome"
    where = f"{attempt.host}, process {attempt.pid}, {attempt.device or 'unknown device'}"
    return f"attempt {attempt.number}: {outcome}, from {attempt.started}{end} on {where}{reason}"

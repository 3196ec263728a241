"""Command `run`: train what an ablation lacks."""

import shlex
from collections import Counter
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from ema_lab.cli.display import Display
from ema_lab.cli.groups import CellOptions, FolderOptions, MachineOptions, execution_options, expanded
from ema_lab.cli.options import MOST, AblationName, EngineConfig, EngineName, Json, refuse_without
from ema_lab.cli.output import print_rows, put, say
from ema_lab.cli.store_argument import command_arguments
from ema_lab.execution.threads import MOST_PROCESSES
from ema_lab.files import read_text
from ema_lab.statistics.sequential import MIN_SEEDS, Decision
from ema_lab.store.layout import PROFILE
from ema_lab.wording import number_of
from ema_lab.workflow.events import Event, GridEnded
from ema_lab.workflow.execution import RANK_TIMEOUT
from ema_lab.workflow.outcome import Comparison, GridOutcome
from ema_lab.workflow.text import read_duration
from ema_lab.workflow.train.run import run as train
from ema_lab.workflow.train.status import survey
from ema_lab.workflow.train.until import MAX_SEEDS, Until

LEFT = 75  # EX_TEMPFAIL of sysexits: the same command goes on


@dataclass(frozen=True)
class TrainingOptions:
    """Engine and limits of training, and what is trained again."""

    engine: EngineName = None
    engine_config: EngineConfig = None
    smoke: Annotated[
        bool,
        typer.Option("--smoke", help="Two steps of every row on made-up images, in a temporary store."),
    ] = False
    timeout: Annotated[
        str | None,
        typer.Option(
            "--timeout", metavar="TIME", help="Stop a run that takes longer; it counts as failed: 45m, 2h."
        ),
    ] = None
    gpu_slots: Annotated[
        int, typer.Option("--gpu-slots", min=1, max=MOST_PROCESSES, help="Runs at the same time on each GPU.")
    ] = 1
    refresh: Annotated[
        bool,
        typer.Option(
            "--refresh", help="Train stale results again; the old ones are kept in the run's folder."
        ),
    ] = False
    stop_after: Annotated[
        str | None,
        typer.Option(
            "--stop-after",
            metavar="TIME",
            help="Save checkpoints and stop after a time, such as 3h50m; exit code 75 if runs are left.",
        ),
    ] = None
    checkpoint_minutes: Annotated[
        float,
        typer.Option(
            "--checkpoint-minutes",
            min=0,
            max=MOST,
            help="Minutes between checkpoints within an epoch; 0 saves only at the ends of epochs.",
        ),
    ] = 10.0
    devices: Annotated[
        int,
        typer.Option(
            "--devices",
            min=1,
            max=MOST_PROCESSES,
            help="Processes that train each run together, each on its own GPU; the batch stays as it is.",
        ),
    ] = 1
    nodes: Annotated[
        int,
        typer.Option(
            "--nodes",
            min=1,
            max=MOST_PROCESSES,
            help="Machines that train each run together, each by --devices processes.",
        ),
    ] = 1
    rank_timeout: Annotated[
        str | None,
        typer.Option(
            "--rank-timeout",
            metavar="TIME",
            help="Fail the attempt if one of several processes keeps the others waiting so long; 30m.",
        ),
    ] = None
    profile: Annotated[
        bool,
        typer.Option(
            "--profile",
            help="Print where each run's time went, and write a trace of a few steps to its folder.",
        ),
    ] = False

    def settings(self) -> dict[str, Any]:
        """Return the settings of execution among the options."""
        settings = {key: value for key, value in vars(self).items() if key != "smoke"}
        settings["timeout"] = read_duration("--timeout", self.timeout)
        settings["stop_after"] = read_duration("--stop-after", self.stop_after)
        settings["rank_timeout"] = read_duration("--rank-timeout", self.rank_timeout) or RANK_TIMEOUT
        return settings


@dataclass(frozen=True)
class UntilOptions:
    """Addition of seeds to undecided comparisons."""

    until_decided: Annotated[
        bool,
        typer.Option(
            "--until-decided",
            help="Add seeds one by one to the rows whose comparison with the baseline is open.",
        ),
    ] = False
    max_seeds: Annotated[
        int | None,
        typer.Option(
            "--max-seeds",
            min=MIN_SEEDS,
            max=MOST,
            help="With --until-decided: seeds of a row at most, fixed before the first result; 20.",
        ),
    ] = None
    open_ended: Annotated[
        bool,
        typer.Option(
            "--open-ended",
            help="With --until-decided: --max-seeds may be raised later. The test then needs more seeds.",
        ),
    ] = False
    metric: Annotated[
        str | None,
        typer.Option("--metric", help="With --until-decided: what is compared; the primary metric."),
    ] = None
    margin: Annotated[
        float | None,
        typer.Option("--margin", min=0.0, help="With --until-decided: smaller differences count as equal."),
    ] = None

    def rule(self) -> Until | None:
        """Return the rule that ends the addition of seeds; None without --until-decided.

        Raises:
            SpecError: If an option has no effect.
        """
        if self.until_decided:
            max_seeds = MAX_SEEDS if self.max_seeds is None else self.max_seeds
            return Until(max_seeds, self.metric, self.margin or 0.0, self.open_ended)
        options = {"--max-seeds": self.max_seeds, "--metric": self.metric, "--margin": self.margin}
        given = {name: value is not None for name, value in options.items()}
        refuse_without("--until-decided", {**given, "--open-ended": self.open_ended})
        return None


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(expanded(run))


def run(
    ablation: AblationName,
    cells: CellOptions,
    machine: MachineOptions,
    training: TrainingOptions,
    until: UntilOptions,
    folders: FolderOptions,
    as_json: Json = False,
) -> int:
    """Train every cell that has no result yet.

    Finished runs are kept, failed ones retried; Ctrl-C loses none. At the end the table so far is printed,
    and the command that writes it with figures and a page. Exit code 1 if a run failed, 75 if --stop-after
    left runs for the next call.

    Examples: ema-lab run quickstart --workers 2; ema-lab run quickstart --until-decided --max-seeds 20
    """
    rule = until.rule()
    settings = execution_options(machine, folders, **training.settings())
    watch = _Watch(folders.max_attempts if as_json else None)
    outcome = train(ablation, **cells.choice(), smoke=training.smoke, until=rule, watch=watch, **settings)
    if training.profile:
        _print_profiles(outcome)
    if rule is not None:
        _print_decisions(outcome, rule, as_json=as_json)
    elif as_json:
        print_rows(watch.rows, as_json=True)
    elif not training.smoke:
        _print_table(outcome, command_arguments(ablation, folders.store, cells.changes))
    if outcome.failed:
        return 1
    return LEFT if outcome.left else 0


def _print_table(outcome: GridOutcome, arguments: str) -> None:
    """Print the table of an ablation so far, and the command that writes it with its figures and the page."""
    from ema_lab.tables.render import render_text
    from ema_lab.workflow.publish.report import usual_report

    if not (outcome.trained or outcome.done_before or outcome.elsewhere):
        return
    put(render_text(usual_report(outcome.ablation, outcome.store).table()), end="")
    folder = f"out/{outcome.ablation.name}"
    say(f"next: ema-lab report {arguments} --out {shlex.quote(folder)}  (page: {folder}/index.html)")


class _Watch(Display):
    """Display that also surveys the cells of the last grid before --smoke removes its store.

    `max_attempts`: of the survey; None leaves it out.
    """

    def __init__(self, max_attempts: int | None) -> None:
        super().__init__()
        self.rows: list[dict[str, Any]] = []
        self._max_attempts = max_attempts

    def __call__(self, event: Event) -> None:
        super().__call__(event)
        if self._max_attempts is not None and isinstance(event, GridEnded):
            self.rows = survey(event.outcome.ablation, event.outcome.store, self._max_attempts).rows()


def _print_profiles(outcome: GridOutcome) -> None:
    if not outcome.trained:
        say("--profile: no run was trained, so there is no profile; retry or --refresh train runs again")
    for run_id in outcome.trained:
        path = outcome.store.folder(run_id) / PROFILE
        if path.is_file():
            say(read_text(path).rstrip())


def _print_decisions(outcome: GridOutcome, until: Until, *, as_json: bool) -> None:
    comparisons = outcome.comparisons
    print_rows([_decision_row(comparison) for comparison in comparisons], as_json=as_json)
    counts = Counter(comparison.decision for comparison in comparisons)
    left: dict[Decision, str] = {
        "futile": "futile (the seeds up to the limit would hardly decide them)",
        "open": "open",
    }
    still = "".join(f"; {counts[key]} {words}" for key, words in left.items() if counts[key])
    num_decided = len(comparisons) - counts["futile"] - counts["open"]
    decided = f"{num_decided} of {number_of(len(comparisons), 'comparison')} decided{still}"
    test, seeds = "always-valid paired t tests", "decided"
    if until.planned_seeds is not None:
        most = number_of(until.planned_seeds, "seed")
        test = f"group-sequential paired t tests of at most {most}, fixed in advance"
        seeds = f"{{decided: {until.planned_seeds}}}"
    error = "Holm-corrected: at most 5 % chance of any false difference"
    say(f"{outcome.ablation.name}: {decided} ({test}, {error})")
    say(f"hint: a report with `seeds: {seeds}` shows these seeds and intervals")


def _decision_row(comparison: Comparison) -> dict[str, Any]:
    differences = comparison.followed
    bounded = differences.low > float("-inf")
    return {
        "variant": comparison.row,
        "baseline": comparison.baseline,
        "n": differences.count,
        "delta": differences.mean if differences.count else None,
        "low": differences.low if bounded else None,
        "high": differences.high if bounded else None,
        "p": differences.p,
        "decision": comparison.decision,
    }

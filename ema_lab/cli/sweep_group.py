"""Command group `sweep`: run a search, show, plot and export it."""

from typing import Any

import typer
from typer.core import TyperGroup

from ema_lab.cli import sweep, sweep_results
from ema_lab.cli.groups import expanded

HELP = """Search hyper-parameters, and inspect the trials.

A sweep is a file in W&B's sweep format. `ema-lab sweep X` is `ema-lab sweep run X`: it tries values until
the search has --trials trials. A later call continues the search. The other commands work at any time, also
while it runs. Examples:

\b
  ema-lab sweep quick_search --trials 12          search (options: sweep run --help)
  ema-lab sweep show quick_search                 the best trials
  ema-lab sweep plot quick_search --out out/q     importance, slices, contours, history, table
  ema-lab sweep export quick_search --out q.csv   every trial
  ema-lab sweep push quick_search --to wandb      mirror the trials
  ema-lab dashboard quick_search                  the same search live in a browser

X is a path, or a name as `ema-lab list sweeps` prints it. Name a file that is
called like one of these commands by its path: ema-lab sweep ./show.yaml
"""


class RunByDefault(TyperGroup):
    """Command group that runs `run` if the first word names none of its commands."""

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        own = {*self.commands, *ctx.help_option_names}
        arguments = args or ctx.help_option_names[:1]
        return super().parse_args(ctx, arguments if arguments[0] in own else ["run", *arguments])


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    commands = typer.Typer(
        name="sweep", cls=RunByDefault, help=HELP, no_args_is_help=True, rich_markup_mode=None
    )
    commands.command("run", short_help="Try values until the search has its trials")(expanded(sweep.run))
    for command, summary in (
        (sweep_results.show, "The best trials; of several objectives, the front"),
        (sweep_results.plot, "Importance, slices, contours, history, a table"),
        (sweep_results.export, "Write every trial to a file"),
        (sweep_results.push, "Mirror every trial to W&B"),
    ):
        commands.command(short_help=summary)(command)
    app.add_typer(commands, context_settings={"help_option_names": ["-h", "--help"]})

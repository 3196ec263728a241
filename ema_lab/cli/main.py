"""The command line: the only layer that prints, parses arguments and exits.

Exit codes: 0 done, 1 a run failed, 2 the request was wrong, 130 interrupted.
"""

import sys

import click
import typer

from ema_lab.cli import definitions, execution, results
from ema_lab.errors import EmaLabError

app = typer.Typer(
    name="ema-lab",
    help="Run ablation grids of visual attention modules, compare them fairly, print the paper's tables.\n\n"
    "Start with:  ema-lab run quickstart  &&  ema-lab report quickstart --out out/quickstart",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for commands in (definitions, execution, results):
    commands.register(app)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    sys.exit(run(arguments))


def run(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code; a user's mistake is one line per problem."""
    try:
        code = app(arguments, standalone_mode=False)
    except EmaLabError as error:
        for line in str(error).splitlines():
            print(f"ema-lab: {line}", file=sys.stderr)
        return 2
    except click.ClickException as error:
        print(f"ema-lab: {error.format_message()}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, click.Abort):
        print("ema-lab: interrupted; what was finished is kept, the rest is pending", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    return code if isinstance(code, int) else 0

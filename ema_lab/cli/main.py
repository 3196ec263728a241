"""The command line: the only layer that prints, parses arguments and exits.

Exit codes: 0 done, 1 a run or a check failed, 2 the request was wrong, 75 --stop-after has left runs, 130
interrupted, 143 terminated.
"""

import errno
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from functools import cache
from typing import Annotated, Any, NoReturn

import typer
from typer.main import get_command

from ema_lab.cli.commands import Commands
from ema_lab.cli.output import (
    ClosedOutput,
    discard,
    is_printable,
    open_closed_streams,
    output_works,
    put,
    say,
)
from ema_lab.cli.spelling import modern
from ema_lab.cli.usage import usage_message
from ema_lab.cli.volume import set_volume, split_volume
from ema_lab.errors import EmaLabError, Terminated, WorkersDiedError
from ema_lab.wording import with_short_values

WARM = "EMA_LAB_WARM"  # names the socket of a warm process (`ema_lab.cli.warm`)
INTERRUPTED = 130
TERMINATED = 143
TRAINING = {"run", "sweep", "tune", "trial"}
KEPT = {  # by a command that is interrupted
    **dict.fromkeys(TRAINING, "; what was finished is kept, the rest is pending"),
    "prepare": "; the resized copies made so far are kept",  # but no shards
}
COLLECT_AFTER = 200_000  # new objects; Python's default is 700
_terminated = threading.Event()
# typer carries click inside or beside itself, by its version; this is the base of both's usage errors.
UsageError: type[Any] = typer.BadParameter.__mro__[1]


app = typer.Typer(
    cls=Commands,
    name="ema-lab",
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(requested: bool) -> None:
    if requested:
        from importlib.metadata import version

        put(f"ema-lab {version('ema-lab')}")
        raise typer.Exit


Version = Annotated[
    bool,
    typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
]


@app.callback()
def options(version: Version = False) -> None:
    """Run ablation grids of attention modules, compare them fairly, print the tables.

    Start with:

    \b
      ema-lab run quickstart
      ema-lab report quickstart --out out/quickstart

    `ema-lab COMMAND --help` has the options of a command, and an example.
    """


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code; SIGTERM stops it as Ctrl-C does."""
    open_closed_streams()
    if (answer := _forwarded(arguments)) is not None:
        sys.exit(answer)
    signal.signal(signal.SIGTERM, _terminate)
    if not TRAINING.intersection(sys.argv[1:2] if arguments is None else arguments[:1]):
        gc.set_threshold(COLLECT_AFTER)  # thousands of records are kept to the end: to search them is waste
    code = run(arguments)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        discard(sys.stdout)
    except OSError as error:
        code = _full_output(error)
    if isinstance(sys.stdout, ClosedOutput) and sys.stdout.lost:
        code = code or _refused(["standard output is closed: what the command printed is lost"])
    gc.freeze()  # the end of Python searches all that was imported for garbage: a second with Lightning
    sys.exit(code)


def _forwarded(arguments: list[str] | None) -> int | None:
    """Run the command through the warm process and return its exit code; None without a warm process."""
    if arguments is not None or WARM not in os.environ:
        return None
    from ema_lab.cli.warm import forwarded

    return forwarded(sys.argv[1:])


def _terminate(_number: int, _frame: object) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second signal would interrupt the cleanup
    _terminated.set()  # typer and Lightning turn the exception into a plain interruption
    raise Terminated


@cache
def _command() -> Callable[..., Any]:
    """Build the command from the declarations of its options, once per process."""
    return get_command(app)


def run(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code; a user's mistake is one line per problem."""
    volume, argv = split_volume(sys.argv[1:] if arguments is None else arguments)
    set_volume(volume)
    argv, hints = modern(argv)
    say(*hints)
    try:
        code = _command()(argv or ["--help"], prog_name="ema-lab", standalone_mode=False)
        if code == INTERRUPTED:  # how typer returns from Ctrl-C
            raise KeyboardInterrupt
    except EmaLabError as error:
        code = _refused(str(error).split("\n"), argv)
        return 1 if isinstance(error, WorkersDiedError) else code
    except UsageError as error:
        return _refused([usage_message(error)], argv)
    except UnicodeEncodeError as error:
        if is_printable(error.object[error.start : error.end]):
            raise
        sign, encoding = ascii(error.object[error.start]), sys.stdout.encoding
        return _refused([f"standard output is {encoding}, which has no {sign}: set PYTHONIOENCODING=utf-8"])
    except (KeyboardInterrupt, typer.Abort):
        word = "terminated" if _terminated.is_set() else "interrupted"
        kept = KEPT.get(argv[0], "") if argv else ""
        say(f"ema-lab: {word}{kept}", always=True)
        return TERMINATED if _terminated.is_set() else INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return _refused([f"{str(error.filename)!r} is too long for a file name"])
        if output_works():
            raise
        return _full_output(error)
    return code if isinstance(code, int) else 0


def _refused(lines: Sequence[str], arguments: Sequence[str] = ()) -> int:
    say(*(f"ema-lab: {with_short_values(line, arguments)}" for line in lines if line), always=True)
    return 2


def _full_output(error: OSError) -> int:
    discard(sys.stdout)
    return _refused([f"standard output cannot be written: {error.strerror}"])

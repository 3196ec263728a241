"""Table of the commands. A command's module is imported when the command is used, so that help is quick.

The summary of a command is the first line of its help; a test compares the table with the commands.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from ema_lab.cli.volume import VOLUME_OPTIONS
from ema_lab.errors import UnknownNameError


@dataclass(frozen=True)
class Entry:
    """Command that is not imported yet.

    Attributes:
        module: Its module in `ema_lab.cli`, whose `register` adds the command to an app.
        summary: First line of its help.
        hidden: Whether help leaves it out: other programs call it.
    """

    module: str
    summary: str
    hidden: bool = False


GROUPS: Mapping[str, Mapping[str, Entry]] = {
    "Define": {
        "new": Entry("definitions", "Write a file to start from."),
        "list": Entry("definitions", "List everything that has a name."),
        "show": Entry("definitions", "Show one thing: options, text, spec or record."),
        "schema": Entry("definitions", "Print the JSON Schema of definition files."),
        "check": Entry("check", "Check a module, backbone, detector or data set."),
    },
    "Train": {
        "plan": Entry("plan", "Print what `run` would do, and how long it takes."),
        "prepare": Entry("prepare", "Make the resized images that runs read, in advance."),
        "run": Entry("run", "Train every cell that has no result yet."),
        "join": Entry("join", "Train a part of each run of another machine."),
        "status": Entry("status", "Show every cell: state, attempts, result."),
        "log": Entry("log", "Show what happened to a run: attempts, error, log."),
        "retry": Entry("status", "Make failed runs pending again."),
    },
    "Look": {
        "cost": Entry("cost", "Count parameters and MACs of every row."),
        "diff": Entry("results", "Show the differences of two runs."),
        "eval": Entry("results", "Evaluate a finished run's model again."),
        "gallery": Entry("gallery", "Draw gate maps and Grad-CAM of finished runs."),
        "serve": Entry("serve", "Show the store, or reports, in a browser, live."),
    },
    "Publish": {
        "report": Entry("report", "Print and write the tables of a report."),
        "audit": Entry("audit", "Compare published numbers with computed ones."),
        "bundle": Entry("bundle", "Write a report and its records to a zip file."),
        "verify": Entry("bundle", "Build a bundle's report again and compare."),
        "push": Entry("push", "Rebuild an ablation's mirror from the store."),
    },
    "Search": {
        "sweep": Entry("sweep_group", "Search hyper-parameters, and inspect the trials."),
        "tune": Entry("tune", "Search with an equal budget for every row."),
        "dashboard": Entry("dashboard", "Show a search live in a browser."),
        "trial": Entry("trial", "Train the runs of one trial of a sweep.", hidden=True),
    },
    "Store": {
        "store": Entry("store", "Maintain the runs: check, gc, export, import, rm."),
    },
}
ENTRIES: Mapping[str, Entry] = {name: entry for group in GROUPS.values() for name, entry in group.items()}


class LazyCommands(Mapping[str, Any]):
    """Commands by name; each is imported and built when it is read."""

    def __init__(self) -> None:
        self._built: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._built:
            self._built |= _commands_of(ENTRIES[name].module)
        return self._built[name]

    def __iter__(self) -> Iterator[str]:
        return iter(ENTRIES)

    def __len__(self) -> int:
        return len(ENTRIES)


def _commands_of(module: str) -> dict[str, Any]:
    """Import a module of commands and return its commands by name, hidden as the table says."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.callback()(_group)
    import_module(f"ema_lab.cli.{module}").register(app)
    root: Any = get_command(app)
    commands: dict[str, Any] = dict(root.commands)
    for name, command in commands.items():
        command.hidden = ENTRIES[name].hidden
    return commands


def _group() -> None:
    """Turn an app into a command group, because typer turns an app with one command into that command."""


class Commands(TyperGroup):
    """Group of all commands: its help is the table, and an unknown name is answered with the known ones."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands: Any = LazyCommands()

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import the module of a command and return the command.

        Raises:
            UnknownNameError: If no command has this name.
        """
        if cmd_name in ENTRIES:
            return self.commands[cmd_name]
        if ctx.resilient_parsing:
            return None
        from ema_lab.registry.registry import unknown_name

        raise UnknownNameError(unknown_name("command", cmd_name, self.list_commands(ctx)))

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names that help lists, in its order."""
        return [name for name, entry in ENTRIES.items() if not entry.hidden]

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the table, group by group, with the summaries in one column."""
        widest = max(map(len, ENTRIES))
        for title, group in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl(
                    [(name.ljust(widest), each.summary) for name, each in group.items() if not each.hidden]
                )
        with formatter.section("Everywhere"):
            formatter.write_dl([*VOLUME_OPTIONS])

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """Complete a command's name from the table."""
        known: Any = {
            name: TyperCommand(name, short_help=ENTRIES[name].summary) for name in self.list_commands(ctx)
        }
        table = TyperGroup(name=self.name, commands=known, params=self.params)
        context = table.make_context(ctx.info_name, [], resilient_parsing=True)
        return table.shell_complete(context, incomplete)

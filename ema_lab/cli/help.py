"""Help of the command line: its commands in groups, each with a summary, and the options of all."""

from collections.abc import Mapping, Sequence
from typing import Any

from typer.core import TyperGroup

from ema_lab.errors import UnknownNameError
from ema_lab.registry.registry import unknown_name

SUMMARY = 55  # characters at most
GROUPS: Mapping[str, Mapping[str, str]] = {
    "Define": {
        "list": "What there is: modules, data sets, definitions, runs",
        "show": "One thing in full; the columns, figures, recipes",
        "new": "Write a file that works, to start from",
        "check": "Hold a module, backbone or data set to its contract",
        "schema": "JSON Schemas of definition files, for an editor",
    },
    "Train": {
        "plan": "What `run` would do, how long, what it could detect",
        "run": "Train every cell that has no result yet",
        "status": "Every cell: state, attempts, result; failures",
        "log": "What happened to a run: attempts, error, log",
        "retry": "Queue failed runs again",
    },
    "Look": {
        "report": "Print tables; write them with figures and a page",
        "serve": "Show reports live in a browser",
        "cost": "Parameters, MACs and times of every row",
        "diff": "What differs between two runs",
        "eval": "Evaluate a finished run again",
        "gallery": "Draw what the modules look at in images",
    },
    "Publish": {
        "bundle": "A report and all behind it in one zip file",
        "verify": "Rebuild a bundle's report from its records",
        "audit": "Compare published numbers with counts and runs",
        "push": "Mirror an ablation to an experiment tracker",
    },
    "Search": {
        "sweep": "Search hyper-parameters; show, plot, export trials",
        "tune": "Tune every row alike, then compare the winners",
        "dashboard": "Show a search live with optuna-dashboard",
    },
    "Store": {"store": "Check, clean, export, import, remove runs"},
}
HIDDEN = {"trial": "Train one trial of a sweep, as W&B's agents ask for it"}
SUMMARIES = {**HIDDEN, **{name: text for group in GROUPS.values() for name, text in group.items()}}
EVERYWHERE = (
    ("-q, --quiet", "Print errors and failures only, beside the data."),
    ("-v, --verbose", "Print more, such as each epoch of a run."),
)
VOLUMES = {"-q": -1, "--quiet": -1, "-v": 1, "--verbose": 1}


def split_volume(arguments: Sequence[str]) -> tuple[int, list[str]]:
    """Return how much is to be said, and the arguments without the options that say so."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    level = sum(VOLUMES.get(word, 0) for word in arguments[:end])
    return level, [word for number, word in enumerate(arguments) if number >= end or word not in VOLUMES]


class Commands(TyperGroup):
    """Command group with its commands by purpose, whose error for an unknown name lists the known ones."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        command = super().get_command(ctx, cmd_name)
        if command is None and not ctx.resilient_parsing:
            known = [name for group in GROUPS.values() for name in group]
            raise UnknownNameError(unknown_name("command", cmd_name, known))
        return command

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands of each group with their summaries."""
        for title, commands in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([*commands.items()], col_spacing=2)
        with formatter.section("Everywhere"):
            formatter.write_dl([*EVERYWHERE], col_spacing=2)

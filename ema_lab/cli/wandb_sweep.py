"""Search by a W&B server: its sweep made from the same file, its agents run here."""

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated, Any

import typer

from ema_lab.cli.output import print_rows, say
from ema_lab.cli.run import Execution
from ema_lab.cli.threads import visible_gpus
from ema_lab.errors import EngineError, SpecError
from ema_lab.execution.threads import default_workers
from ema_lab.registry.registry import unknown_name
from ema_lab.search.strategy import require_comparison
from ema_lab.search.sweep import Sweep
from ema_lab.specs.sweep import VALIDATION
from ema_lab.tracking.names import wandb_has_key, wandb_is_offline

ONLY: Mapping[str, tuple[str, ...]] = {  # options, by the one engine that understands them
    "optuna": (
        "timeout",
        "sampler",
        "pruner",
        "objective",
        "sampler_seed",
        "storage",
        "warm_start",
        "track",
        "smoke",
    ),
    "wandb": ("project", "entity"),
}
DEFAULT_PROJECT = "ema-lab"
THREADS = "EMA_LAB_THREADS"
ANSWER_SECONDS = 20.0

SweepEngine = Annotated[
    str,
    typer.Option("--engine", help="Who chooses: optuna, offline, or wandb, a server that agents here ask."),
]
WandbProject = Annotated[
    str | None, typer.Option("--project", help="W&B's project; by default the file's, else ema-lab.")
]
WandbEntity = Annotated[
    str | None, typer.Option("--entity", help="W&B's user or team; by default the file's, else yours.")
]


def check_engine(engine: str, context: typer.Context, sweep: str) -> None:
    """Refuse an engine that does not exist or cannot start here, and options that it does not understand.

    Raises:
        SpecError: With what would be right.
        EngineError: If W&B has no account here.
    """
    if engine not in ONLY:
        raise SpecError(unknown_name("engine", engine, tuple(ONLY)))
    for other, names in ONLY.items():
        for name in names if other != engine else ():
            source = context.get_parameter_source(name)
            if source is not None and source.name == "COMMANDLINE":
                raise SpecError(f"--{name.replace('_', '-')} is for --engine {other}; this is {engine}")
    if engine == "wandb":
        check_account(sweep)


def check_account(sweep: str) -> None:
    """Refuse to go on without a W&B server to ask.

    Raises:
        EngineError: With the way that needs none.
    """
    offline = f"ema-lab sweep {sweep} runs the same file offline"
    if importlib.util.find_spec("wandb") is None:
        raise EngineError(f"wandb is not installed: pip install 'ema-lab[wandb]'; {offline}")
    if wandb_is_offline():
        raise EngineError(f"W&B's sweeps need its server, and WANDB_MODE is offline here; {offline}")
    if not wandb_has_key():
        needs = "needs an account (wandb login) or a server of your own (WANDB_BASE_URL), and its key"
        raise EngineError(f"--engine wandb {needs}; {offline}")


def check_ends(sweep: Sweep, trials: int | None) -> None:
    """Refuse a search that nothing begins or ends, and early stopping after the last epoch.

    Raises:
        SpecError: With what would be right.
    """
    if bands := sweep.spec.early_terminate:
        require_comparison(sweep, bands.first_band, "early_terminate")
    if sweep.spec.controller is not None and sweep.spec.controller.type == "local":
        where = sweep.document.where(("controller", "type"))
        rule = "waits for `wandb controller`, which ema-lab does not start: write cloud, or leave it out"
        raise SpecError(f"{where}: controller.type: local {rule}")
    if trials is None and sweep.spec.run_cap is None and sweep.spec.method != "grid":
        raise SpecError(f"{sweep.path} has no run_cap: say --trials N")


@dataclass(frozen=True)
class Agents:
    """W&B's agents on this machine. `told` is what their trials find in the environment.

    `trials` are those of all agents together; None leaves the end to the server.
    """

    workers: int | None
    trials: int | None
    device: str
    told: Mapping[str, str]

    def environments(self) -> list[dict[str, str]]:
        """Return the environment of each agent; with several GPUs each has its own."""
        gpus = visible_gpus() if self.device != "cpu" else ()
        fitting = len(gpus) or default_workers(int(self.told.get(THREADS, 1)))
        number = min(self.workers or fitting, self.trials or sys.maxsize)
        folder = str(Path(sys.executable).parent)  # where `ema-lab` is, should the shell not know
        common = {**os.environ, **self.told, "PATH": os.pathsep.join([folder, os.environ.get("PATH", "")])}
        own = [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in gpus] if len(gpus) > 1 else [{}]
        return [{**common, **own[index % len(own)]} for index in range(number)]

    def counts(self, number: int) -> list[int | None]:
        """Return how many trials each of so many agents is to try."""
        if self.trials is None:
            return [None] * number
        return [self.trials // number + (index < self.trials % number) for index in range(number)]


def agent_environment(store: Path, data: Path, how: Execution) -> dict[str, str]:
    """Return what `ema-lab trial` reads instead of options, which W&B's command has no place for."""
    return {
        "EMA_LAB_STORE": str(store.absolute()),
        "EMA_LAB_DATA": str(data.absolute()),
        "EMA_LAB_DEVICE": how.device,
        "EMA_LAB_LOADER_WORKERS": str(how.loader_workers),
        "EMA_LAB_MAX_ATTEMPTS": str(how.max_attempts),
        **({THREADS: str(how.threads)} if how.threads else {}),
    }


def search_with_wandb(
    sweep: Sweep, agents: Agents, project: str | None, entity: str | None, *, as_json: bool
) -> int:
    """Create the sweep at W&B, run agents until it has its trials, print those, return the exit code."""
    place = create_sweep(sweep, project, entity)
    environments = agents.environments()
    say(f"{sweep.name}: {len(environments)} agent{'s' * (len(environments) > 1)} of the W&B sweep {place}")
    with tempfile.TemporaryFile("a+") as printed:  # appended to: agents share it
        codes = run_agents(place, environments, agents.counts(len(environments)), printed)
        printed.seek(0)
        trials = [json.loads(line) for line in printed if line.startswith("{")]
    names = list(dict.fromkeys(key for trial in trials for key in trial if key.startswith(VALIDATION)))
    print_rows([_row(place, trial, names) for trial in trials], as_json=as_json)
    failed = sum(trial["status"] == "failed" for trial in trials)
    say(
        f"{sweep.name}: {len(trials)} trials, {failed} failed; "
        f"for more of them: wandb agent --forward-signals {place}"
    )
    return 1 if failed or any(codes) else 0


def _row(place: str, trial: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    values = {name: trial.get(name) for name in names}
    return {"sweep": place, "status": trial["status"], **values, "run_ids": " ".join(trial["run_ids"])}


def create_sweep(sweep: Sweep, project: str | None, entity: str | None) -> str:
    """Create a sweep at W&B from the file as it is; return ENTITY/PROJECT/ID.

    Raises:
        EngineError: If the server refuses or does not answer.
    """
    import wandb

    require_server(wandb.setup().settings.base_url)
    project = project or sweep.spec.project or os.environ.get("WANDB_PROJECT") or DEFAULT_PROJECT
    try:
        with contextlib.redirect_stdout(sys.stderr):  # it prints the sweep's id and address
            sweep_id = wandb.sweep(sweep.document.value, entity=entity or sweep.spec.entity, project=project)
    except Exception as error:  # the client's errors have no common base
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise EngineError(f"W&B did not create the sweep: {reason}") from None
    finally:
        wandb.teardown()
    known = (os.environ.get(name) for name in ("WANDB_ENTITY", "WANDB_PROJECT"))  # as the server named them
    return "/".join([*(name for name in known if name), sweep_id])


def require_server(url: str) -> None:
    """Refuse a server that does not answer: W&B's client would ask it again for minutes.

    Raises:
        EngineError: With its address.
    """
    try:
        urllib.request.urlopen(url, timeout=ANSWER_SECONDS).close()
    except urllib.error.HTTPError:
        return  # an answer, whatever it says of this page
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise EngineError(f"the W&B server {url} does not answer: {reason}") from None


def run_agents(
    place: str, environments: Sequence[Mapping[str, str]], counts: Sequence[int | None], out: IO[str]
) -> list[int]:
    """Run one agent per environment until the server or its count ends it; return their exit codes.

    What their trials print goes to `out`. However this process ends, agents and trials are stopped.
    """
    agents: list[subprocess.Popen[bytes]] = []
    try:
        for environment, count in zip(environments, counts, strict=True):
            limit = [] if count is None else ["--count", str(count)]
            agent = [sys.executable, "-m", "wandb", "agent", "--forward-signals", *limit, place]
            command = [sys.executable, "-m", "ema_lab.cli.with_parent", *agent]
            # A session of its own: Ctrl-C reaches the agent once, when its standard input is closed here,
            # and --forward-signals (wandb 0.24) hands it on to its trial.
            pipes: Mapping[str, Any] = {"stdin": subprocess.PIPE, "stdout": out}
            agents.append(subprocess.Popen(command, env=dict(environment), start_new_session=True, **pipes))
        return [agent.wait() for agent in agents]
    finally:
        stop_agents(agents)


def stop_agents(agents: Sequence["subprocess.Popen[bytes]"]) -> None:
    """Stop what still runs, as `with_parent` does, and wait for its end."""
    for agent in agents:
        assert agent.stdin is not None
        agent.stdin.close()
    for agent in agents:
        agent.wait()

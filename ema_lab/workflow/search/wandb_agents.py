"""Search by a W&B server: create its sweep from the same file and run its agents on this machine."""

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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from ema_lab.attention.kernels.choice import VARIABLE
from ema_lab.errors import EngineError, SpecError
from ema_lab.execution.claim import PRELOADED
from ema_lab.execution.threads import default_workers
from ema_lab.search.strategy import require_comparison
from ema_lab.search.sweep import Sweep
from ema_lab.tracking.names import wandb_has_key, wandb_is_offline
from ema_lab.workflow.events import AgentsStarted
from ema_lab.workflow.execution import Execution, Watch
from ema_lab.workflow.search.sweep import prepare
from ema_lab.workflow.search.warm import WARM, warm_process
from ema_lab.workflow.train.threads import base_ablation, expected_threads, visible_gpus

DEFAULT_PROJECT = "ema-lab"
LOADERS = "EMA_LAB_LOADER_WORKERS"
THREADS = "EMA_LAB_THREADS"
ANSWER_SECONDS = 20.0
LOADED = (*PRELOADED, "ema_lab.workflow.search.trial", "wandb")  # by the process that trials are forked from


def check_account(sweep: str) -> None:
    """Check that W&B is installed, online and has a key.

    Raises:
        EngineError: With the offline command that needs none of these.
    """
    offline = f"ema-lab sweep {sweep} runs the same file offline"
    if importlib.util.find_spec("wandb") is None:
        raise EngineError(f"wandb is not installed: pip install 'ema-lab[wandb]'; {offline}")
    if wandb_is_offline():
        raise EngineError(f"W&B's sweeps need its server, and WANDB_MODE is offline here; {offline}")
    if not wandb_has_key():
        needs = "needs an account (wandb login) or a server of your own (WANDB_BASE_URL), and its key"
        raise EngineError(f"--chooser wandb {needs}; {offline}")


def check_ends(sweep: Sweep, trials: int | None) -> None:
    """Check that the search ends, that the server runs it, and that early stopping is before the last epoch.

    Raises:
        SpecError: With the remedy.
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
    """W&B's agents on this machine.

    Attributes:
        workers: Number of agents; None takes as many as fit the cores, or the GPUs.
        trials: Total number of trials; None lets the server end the search.
        device: Device of the runs.
        variables: Environment variables for the trials.
    """

    workers: int | None
    trials: int | None
    device: str
    variables: Mapping[str, str]

    def environments(self) -> list[dict[str, str]]:
        """Return the environment of each agent; with several GPUs, each agent gets one."""
        gpus = visible_gpus() if self.device != "cpu" else ()
        fitting = len(gpus) or default_workers(int(self.variables.get(THREADS, 1)))
        number = min(self.workers or fitting, self.trials or sys.maxsize)
        folder = str(Path(sys.executable).parent)  # of `ema-lab`, which may not be on PATH
        common = {
            **os.environ,
            **self.variables,
            "PATH": os.pathsep.join([folder, os.environ.get("PATH", "")]),
        }
        own = [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in gpus] if len(gpus) > 1 else [{}]
        return [{**common, **own[index % len(own)]} for index in range(number)]

    def counts(self, number: int) -> list[int | None]:
        """Divide the trials among a number of agents."""
        if self.trials is None:
            return [None] * number
        return [self.trials // number + (index < self.trials % number) for index in range(number)]


@dataclass(frozen=True)
class AgentsOutcome:
    """Trials that the agents of this machine have tried, as flat objects, and whether all went well."""

    address: str
    trials: tuple[Mapping[str, Any], ...]
    exit_codes: tuple[int, ...]

    @property
    def failed(self) -> int:
        """Number of failed trials."""
        return sum(trial["status"] == "failed" for trial in self.trials)

    @property
    def ok(self) -> bool:
        """Whether no trial and no agent has failed."""
        return not self.failed and not any(self.exit_codes)


@dataclass(frozen=True)
class WandbProject:
    """Project and entity of a sweep at W&B; None takes the file's, else W&B's own default."""

    project: str | None = None
    entity: str | None = None


def search_with_wandb(
    sweep: Sweep, trials: int | None, how: Execution, project: WandbProject, watch: Watch
) -> AgentsOutcome:
    """Create the sweep at W&B and run its agents here until it has its trials.

    Raises:
        EmaLabError: If nothing would end the search, a model does not fit, or the server does not answer.
    """
    check_ends(sweep, trials)
    family = base_ablation(sweep.spec.base)
    device = prepare(sweep, how, family, watch)[1]
    threads = expected_threads(how.run_store, family, how.threads, how.device)
    variables = agent_environment(replace(how, threads=threads))
    agents = Agents(how.workers, trials, device, variables)
    address = create_sweep(sweep, project.project, project.entity)
    environments = agents.environments()
    watch(AgentsStarted(sweep.name, len(environments), address))
    with tempfile.TemporaryFile("a+") as out, warm_process(LOADED) as socket:  # appended to: agents share it
        environments = [{**environment, WARM: socket} for environment in environments]
        codes = run_agents(address, environments, agents.counts(len(environments)), out)
        out.seek(0)
        lines = [json.loads(line) for line in out if line.startswith("{")]
    return AgentsOutcome(address, tuple(lines), tuple(codes))


def agent_environment(how: Execution) -> dict[str, str]:
    """Return the environment variables that replace options of `ema-lab trial` in W&B's command."""
    return {
        "EMA_LAB_STORE": str(Path(how.store).absolute()),
        "EMA_LAB_DATA": str(how.data_folder),
        "EMA_LAB_DEVICE": how.device,
        "EMA_LAB_MAX_ATTEMPTS": str(how.max_attempts),
        **({LOADERS: str(how.loader_workers)} if how.loader_workers is not None else {}),
        **({THREADS: str(how.threads)} if how.threads else {}),
        **({VARIABLE: how.attention_kernel} if how.attention_kernel else {}),
    }


def create_sweep(sweep: Sweep, project: str | None, entity: str | None) -> str:
    """Create a sweep at W&B from the unchanged file; return ENTITY/PROJECT/ID.

    Raises:
        EngineError: If the server refuses or does not answer.
    """
    import wandb

    require_server(wandb.setup().settings.base_url)
    project = project or sweep.spec.project or os.environ.get("WANDB_PROJECT") or DEFAULT_PROJECT
    try:
        with contextlib.redirect_stdout(sys.stderr):  # the client prints the sweep's id and address
            sweep_id = wandb.sweep(sweep.document.value, entity=entity or sweep.spec.entity, project=project)
    except Exception as error:  # the client's errors have no common base
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise EngineError(f"W&B did not create the sweep: {reason}") from None
    finally:
        wandb.teardown()
    known = (os.environ.get(name) for name in ("WANDB_ENTITY", "WANDB_PROJECT"))  # as the server named them
    return "/".join([*(name for name in known if name), sweep_id])


def require_server(url: str) -> None:
    """Check that a server answers: W&B's client would retry for minutes.

    Raises:
        EngineError: With the address of a server that does not answer.
    """
    try:
        urllib.request.urlopen(url, timeout=ANSWER_SECONDS).close()
    except urllib.error.HTTPError:
        return  # any HTTP status is an answer
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise EngineError(f"the W&B server {url} does not answer: {reason}") from None


def run_agents(
    address: str, environments: Sequence[Mapping[str, str]], counts: Sequence[int | None], out: IO[str]
) -> list[int]:
    """Run one agent per environment until the server or its count ends it; return their exit codes.

    The output of their trials goes to `out`. Agents and trials stop when this process ends, however it ends.
    """
    agents: list[subprocess.Popen[bytes]] = []
    try:
        for environment, count in zip(environments, counts, strict=True):
            limit = [] if count is None else ["--count", str(count)]
            agent = [sys.executable, "-m", "wandb", "agent", "--forward-signals", *limit, address]
            command = [sys.executable, "-m", "ema_lab.workflow.search.with_parent", *agent]
            # A session of its own: Ctrl-C reaches the agent once, when its standard input is closed here,
            # and --forward-signals (wandb 0.24) hands it on to its trial.
            pipes: Mapping[str, Any] = {"stdin": subprocess.PIPE, "stdout": out}
            agents.append(subprocess.Popen(command, env=dict(environment), start_new_session=True, **pipes))
        return [agent.wait() for agent in agents]
    finally:
        stop_agents(agents)


def stop_agents(agents: Sequence["subprocess.Popen[bytes]"]) -> None:
    """Close the standard input of each agent, on which `with_parent` stops it, and wait for its end."""
    for agent in agents:
        assert agent.stdin is not None
        agent.stdin.close()
    for agent in agents:
        agent.wait()

"""Ray engine: tasks on a running Ray cluster, or on one started on this machine."""

import logging
import math
import os
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from ema_lab.errors import EngineError
from ema_lab.execution.claim import Claim, Result, Task
from ema_lab.execution.engines.engine import Monitor
from ema_lab.execution.engines.session import Session
from ema_lab.specs.engine import RaySpec
from ema_lab.store.job import Join
from ema_lab.store.store import RunStore

TICK_SECONDS = 0.25
MAX_SUBMITTED = 1000  # most tasks in Ray at a time
CANCEL_SECONDS = 20.0
LEAVE_SECONDS = 2.0  # for the other machines of a run to see that it is over
LEAST_CPU = 0.01  # Ray refuses to reserve nothing
CONNECT_SECONDS = 10.0
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RayEngine:
    """Engine with one Ray task per run. Ray retries a task elsewhere if its worker or node dies.

    Attributes:
        options: Resources of a run on each of its machines, and address of the cluster.
        workers: Number of concurrent runs; None leaves the number to the cluster's size.
        nodes: Number of machines that train a run together.
        join: Trains the part of each machine but the first.
    """

    options: RaySpec
    workers: int | None = None
    nodes: int = 1
    join: Join | None = None

    @property
    def stop_at(self) -> float:
        """See `Engine`. The cluster has its own time limits."""
        return math.inf

    def run(self, tasks: Sequence[Task], claim: Claim, monitor: Monitor) -> None:
        """See `Engine`.

        Raises:
            EngineError: If Ray is not installed, or no cluster answers.
        """
        ray = import_ray()
        store = RunStore(claim.store.root.absolute())
        with cluster(ray, self.options, self.workers, self.nodes):
            session = Session.open(store, "ray")
            claim = replace(claim, store=store)
            grid = _Grid(ray, session, claim, monitor, _Places(ray, self))
            try:
                grid.run(tasks, self.workers or MAX_SUBMITTED)
            except BaseException:
                grid.cancel()
                raise
            finally:
                session.close()


@dataclass
class _Grid:
    """Tasks in Ray, with `submitted` mapping the references of their results to run ids."""

    ray: Any
    session: Session
    claim: Claim
    monitor: Monitor
    places: "_Places"
    submitted: dict[Any, str] = field(default_factory=dict)

    def run(self, tasks: Iterable[Task], limit: int) -> None:
        """Submit the tasks, at most `limit` at a time, and pass their results to the monitor."""
        function = self.ray.remote(_work)
        session, claim = self.ray.put(self.session), self.ray.put(self.claim)
        left = list(reversed(list(tasks)))
        while left or self.submitted:
            while left and len(self.submitted) < limit:
                task = left.pop()
                placed = self.places.take(session, task)
                reference = function.options(**placed).remote(session, claim, task)
                self.submitted[reference] = task.spec.run_id
            self.ray.wait(list(self.submitted), num_returns=1, timeout=TICK_SECONDS)
            ready, _ = self.ray.wait(list(self.submitted), num_returns=len(self.submitted), timeout=0)
            for reference in ready:
                result = self._result(reference)
                self.places.free(self.submitted[reference])
                self.monitor.ended(self.submitted.pop(reference), result)
            states = self.session.states()
            self.monitor.running(r for r in self.submitted.values() if states.get(r) == "running")

    def cancel(self) -> None:
        """Interrupt all tasks, kill those that do not end in time, and end their attempts as interrupted."""
        references = list(self.submitted)
        for force in (False, True):
            for reference in references:
                self.ray.cancel(reference, force=force)
            if references:
                _, references = self.ray.wait(references, num_returns=len(references), timeout=CANCEL_SECONDS)
        for run_id in self.submitted.values():
            self.places.free(run_id)
        store = self.claim.store
        run_ids = [run_id for run_id, state in self.session.states().items() if state == "running"]
        give_up = time.monotonic() + CANCEL_SECONDS
        while any(map(store.is_locked, run_ids)) and time.monotonic() < give_up:
            time.sleep(TICK_SECONDS)
        self.session.end_interrupted(store, run_ids)

    def _result(self, reference: Any) -> Result:
        errors = self.ray.exceptions
        try:
            result: Result = self.ray.get(reference)
        except errors.RayTaskError as error:  # raised by the claim itself, not by the training
            raise error.cause from None
        except (errors.WorkerCrashedError, errors.NodeDiedError, errors.OutOfMemoryError) as error:
            logger.warning("Ray lost the run %s: %s", self.submitted[reference], type(error).__name__)
            return "killed"  # the attempt has no outcome, so it counts, and the run is pending again
        return result


@dataclass
class _Places:
    """Machines of runs that several machines train: one placement group per run."""

    ray: Any
    engine: RayEngine
    _groups: dict[str, tuple[Any, list[Any]]] = field(default_factory=dict)

    def take(self, session: Any, task: Task) -> dict[str, Any]:
        """Reserve machines for a run, and have all but the first join it; return the first one's options."""
        wanted, join = self.engine.options, self.engine.join
        resources: dict[str, Any] = {"num_cpus": wanted.num_cpus, "num_gpus": wanted.num_gpus}
        resources["max_retries"] = wanted.max_retries
        if join is None:
            return resources
        from ray.util.placement_group import placement_group
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        bundle = {"CPU": wanted.num_cpus, "GPU": wanted.num_gpus}
        bundle = {name: amount for name, amount in bundle.items() if amount} or {"CPU": LEAST_CPU}
        group = placement_group([bundle] * self.engine.nodes, strategy="STRICT_SPREAD")
        first, *others = [
            {
                "scheduling_strategy": PlacementGroupSchedulingStrategy(
                    group, placement_group_bundle_index=number
                )
            }
            for number in range(self.engine.nodes)
        ]
        joining = [
            self.ray.remote(_join).options(**resources, **options).remote(session, task, join)
            for options in others
        ]
        self._groups[task.spec.run_id] = (group, joining)
        return {**resources, **first}

    def free(self, run_id: str) -> None:
        """Give a run's machines back, once what is left of it there has ended."""
        group, joining = self._groups.pop(run_id, (None, []))
        for _ in range(2):
            if joining:
                _, joining = self.ray.wait(joining, num_returns=len(joining), timeout=LEAVE_SECONDS)
            for reference in joining:
                self.ray.cancel(reference)
        if group is not None:
            self.ray.util.remove_placement_group(group)


def _join(session: Session, task: Task, join: Join) -> None:
    """Train the part of one more machine in a Ray worker."""
    session.join(task, join, lambda: False)


def _work(session: Session, claim: Claim, task: Task) -> Result:
    """Run one task in a Ray worker."""
    return session.work(claim, task)


def import_ray() -> Any:
    """Import and return `ray`.

    Raises:
        EngineError: If Ray is not installed; the message says how to install it.
    """
    try:
        import ray
    except ImportError:
        raise EngineError("the engine ray needs Ray; install it with: pip install 'ema-lab[ray]'") from None
    return ray


@contextmanager
def cluster(ray: Any, options: RaySpec, workers: int | None, nodes: int = 1) -> Iterator[None]:
    """Connect to a cluster, or start one on this machine, for a block. An existing connection stays open.

    Raises:
        EngineError: If no cluster answers, or no node is large enough for a run.
    """
    if ray.is_initialized():
        yield
        return
    _require_answer(options.address)
    arguments: dict[str, Any] = {"address": options.address}
    if options.address is None:
        cores = workers and max(1, round(workers * options.num_cpus))
        arguments = {"address": "local", "num_cpus": cores, "include_dashboard": False}
    if path := os.environ.get("PYTHONPATH"):  # workers on other nodes then import the same modules
        arguments["runtime_env"] = {"env_vars": {"PYTHONPATH": path}}
    try:
        ray.init(**arguments, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        line = str(error).splitlines()[0]
        raise EngineError(f"no Ray cluster answers at {options.address or 'local'}: {line}") from None
    try:
        _require_room(ray, options, nodes)
        yield
    finally:
        ray.shutdown()


def _require_answer(address: str | None) -> None:
    """Refuse an address at which nothing listens: Ray would retry for minutes, then exit the process."""
    host, colon, port = (address or "").rpartition(":")
    if not colon:
        return
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        raise EngineError(f"no Ray cluster answers at {address}: {error}") from None


def _require_room(ray: Any, options: RaySpec, nodes: int) -> None:
    """Refuse runs that need more than the largest nodes have: Ray would wait forever."""
    for name, needed in (("CPU", options.num_cpus), ("GPU", options.num_gpus)):
        sizes = sorted(
            (each["Resources"].get(name, 0) for each in ray.nodes() if each["Alive"]), reverse=True
        )
        where = f"the Ray cluster at {options.address}" if options.address else "this machine"
        if needed > max(sizes, default=0):
            largest = max(sizes, default=0)
            raise EngineError(
                f"a run needs {needed:g} {name}, but the largest node of {where} has {largest:g}"
            )
        enough = sum(size >= needed for size in sizes)
        if nodes > enough:
            raise EngineError(
                f"--nodes {nodes} needs {nodes} nodes with {needed:g} {name} each, but {where} has {enough}"
            )

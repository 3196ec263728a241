"""Slurm engine: job arrays submitted by submitit. The cluster must share the store's folder."""

import contextlib
import io
import logging
import math
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import FrameType
from typing import Any

from ema_lab.errors import EngineError
from ema_lab.execution.claim import Claim, Task
from ema_lab.execution.engines.engine import Monitor
from ema_lab.execution.engines.session import Session
from ema_lab.specs.engine import SlurmSpec
from ema_lab.store.job import Join, must_end
from ema_lab.store.store import RunStore

TICK_SECONDS = 0.5
SRUN = ("--kill-on-bad-exit=0", "--wait=3600")  # the machines of a job see themselves who has died
LEFT_SECONDS = 3.0  # a machine's process takes a moment from its file to the file's lock
CANCEL_SECONDS = 60.0  # longer than the KillWait of common clusters
# Final job states of squeue. PREEMPTED is not among them: Slurm may requeue such a job.
OVER = {
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY"),
    *("REVOKED", "TIMEOUT"),
}
# A job imports for seconds before it can handle the time limit's signal, which stays blocked until then.
LAUNCH = (
    "import os, signal, sys; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.{signal}]); "
    "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SlurmEngine:
    """Engine with job arrays: each job claims and trains its share of the runs.

    A preempted job, or one at its time limit, ends its attempt as interrupted and is requeued. The warning
    before the time limit makes training save a checkpoint, from which the run goes on.

    Attributes:
        options: Resources of each machine of a job.
        nodes: Number of machines of a job.
        join: Trains the part of each machine but the first.
    """

    options: SlurmSpec
    nodes: int = 1
    join: Join | None = None

    @property
    def stop_at(self) -> float:
        """See `Engine`. The cluster has its own time limits."""
        return math.inf

    def run(self, tasks: Sequence[Task], claim: Claim, monitor: Monitor) -> None:
        """See `Engine`.

        Raises:
            EngineError: If submitit or Slurm is missing, or the cluster refuses the jobs.
        """
        check_slurm()
        claim = replace(claim, store=RunStore(claim.store.root.absolute()))
        session = Session.open(claim.store, "slurm")
        left = list(tasks)
        size = self.options.array_size * self.options.runs_per_job
        try:
            while left:
                unbegun = self._run_wave(left[:size], claim, session, monitor)
                left = [*unbegun, *left[size:]]
        except BaseException:
            _cancel(session)
            session.end_interrupted(claim.store, [task.spec.run_id for task in tasks])
            raise
        finally:
            for path in [*session.folder.glob("*.pkl"), *session.folder.glob(".submission_file_*")]:
                path.unlink()
            session.close()

    def _run_wave(
        self, tasks: Sequence[Task], claim: Claim, session: Session, monitor: Monitor
    ) -> list[Task]:
        """Follow one array to its end; return the tasks that its dead jobs had not begun."""
        size = self.options.runs_per_job
        chunks = (tasks[start : start + size] for start in range(0, len(tasks), size))
        jobs = submit(
            [self._job(claim, chunk, session) for chunk in chunks], self.options, session, self.nodes
        )
        queue = _Queue(_name(session), set(jobs), self.options.poll_seconds)
        left = {task.spec.run_id: (task, job_id) for job_id, job in jobs.items() for task in job.chunk}
        unbegun: list[Task] = []
        while left:
            queue.ask()
            states = session.states()
            at_work = {job_id for run_id, (_, job_id) in left.items() if states.get(run_id) == "running"}
            for run_id, (task, job_id) in list(left.items()):
                state = states.get(run_id, "running")
                if state == "running" and job_id not in queue.lost:
                    continue
                del left[run_id]
                if run_id not in states and job_id in at_work:  # the job died in another of its runs
                    unbegun.append(task)
                    continue
                if state == "running":  # no outcome, so the attempt counts, and the run is pending again
                    state = "killed"
                    logger.warning(
                        "Slurm job %s ended before its runs; see %s", job_id, _log(session, job_id)
                    )
                monitor.ended(run_id, state)
            monitor.running(r for r, (_, job_id) in left.items() if job_id in queue.running and r in states)
            time.sleep(TICK_SECONDS if left else 0)
        return unbegun

    def _job(self, claim: Claim, chunk: Sequence[Task], session: Session) -> "Job":
        return Job(claim, chunk, session, self.options.grace_seconds / 2, self.join)


@dataclass
class Job:
    """Work of one Slurm job. Submitit pickles the object and calls its `checkpoint` to requeue it.

    On several machines, each calls the object: the first one claims the runs, which the others join.

    Attributes:
        claim: Claim of a run.
        chunk: The runs.
        session: Messages to the engine.
        patience: Seconds that a job waits, after the warning, for its run's checkpoint before it interrupts
            the run.
        join: Trains the part of another machine than the first.
    """

    claim: Claim
    chunk: Sequence[Task]
    session: Session
    patience: float = 0.0
    join: Join | None = None
    _signal: int | None = field(default=None, init=False)
    _waits: bool = field(default=False, init=False)
    _alone_since: float = field(default=math.inf, init=False)

    @property
    def run_ids(self) -> list[str]:
        return [task.spec.run_id for task in self.chunk]

    def __call__(self) -> None:
        from submitit.slurm.slurm import SlurmJobEnvironment

        preempted = signal.Signals[_warning(SlurmJobEnvironment)]
        if self.join is not None and os.environ["SLURM_PROCID"] != "0":
            with self._present(int(os.environ["SLURM_PROCID"])):
                self._join(preempted, self.join)
            return
        requeue: Any = signal.getsignal(
            preempted
        )  # submitit's handler: pickles this job, requeues it and exits
        for number in (preempted, signal.SIGTERM, signal.SIGALRM):
            signal.signal(number, self._stop)
        try:
            signal.pthread_sigmask(
                signal.SIG_UNBLOCK, {preempted}
            )  # delivers a signal that was blocked during the imports
            with self._present(0):
                for index, task in enumerate(self.chunk):
                    if index and self._machine_has_left():
                        self._signal = preempted  # the requeued job gets other machines
                    if self._signal is not None:
                        raise KeyboardInterrupt
                    self.session.work(self.claim, task)
            self._end_wait()
        except KeyboardInterrupt:  # the attempt has ended as interrupted, and its lock is free
            self._end_wait()
            # Slurm signals all processes of a job: a second signal would kill squeue or scontrol.
            signal.pthread_sigmask(signal.SIG_BLOCK, {preempted, signal.SIGTERM})
            is_final = self._signal == signal.SIGTERM and not _is_running(os.environ["SLURM_JOB_ID"])
            if self._signal is None or is_final:
                raise  # cancelled, or requeued by Slurm itself
            requeue(self._signal, None)

    def _join(self, preempted: signal.Signals, join: Join) -> None:
        """Join the runs that the first machine claims; after a signal it decides how long they go on."""
        for number in (preempted, signal.SIGTERM):
            signal.signal(number, self._note)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {preempted})
        for task in self.chunk:
            self.session.join(task, join, self._must_leave)

    def _must_leave(self) -> bool:
        """Return whether a machine has no more runs to join: it was signalled, or the first one has died."""
        now = time.monotonic()
        has_left = self.session.has_left(_machine(0))
        self._alone_since = min(self._alone_since, now) if has_left else math.inf
        return self._signal is not None or now - self._alone_since > LEFT_SECONDS

    def _machine_has_left(self) -> bool:
        count = int(os.environ.get("SLURM_NTASKS", "1"))
        return any(self.session.has_left(_machine(number)) for number in range(1, count))

    def _present(self, number: int) -> contextlib.AbstractContextManager[None]:
        """Show the other machines of the job that this one is alive, if there are others."""
        return contextlib.nullcontext() if self.join is None else self.session.present(_machine(number))

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._signal = number

    def checkpoint(self) -> Any:
        """Return the work of the requeued job: the same tasks. The session skips the finished ones."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(replace(self))  # a copy without the received signal

    def _stop(self, number: int, frame: FrameType | None) -> None:
        """Interrupt the run: after its next checkpoint if the signal is the warning, else at once.

        A run's other processes get the warning, too, and pass it on: it counts once.
        """
        is_warning = number not in (signal.SIGTERM, signal.SIGALRM)
        if self._signal is None and is_warning:
            self._signal, self._waits = number, True
            must_end.set()
            signal.setitimer(signal.ITIMER_REAL, max(self.patience, 0.001))
        elif not is_warning and (self._signal is None or self._waits):  # none disturbs the clean-up
            self._signal = self._signal if number == signal.SIGALRM else number
            self._end_wait()
            raise KeyboardInterrupt

    def _end_wait(self) -> None:
        self._waits = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        must_end.clear()


def _machine(number: int) -> str:
    """Return the name of a machine's process in this start of this job."""
    variables = ("SLURM_JOB_ID", "SLURM_RESTART_COUNT")
    return "-".join([*(os.environ.get(name, "0") for name in variables), str(number)])


class _Queue:
    """States of a session's jobs in the queue, polled from squeue.

    `running` and `lost` hold job ids; a lost job has ended and will not run again.
    """

    def __init__(self, name: str, job_ids: set[str], seconds: float) -> None:
        self.running: set[str] = set()
        self.lost: set[str] = set()
        self._name, self._job_ids, self._seconds = name, job_ids, seconds
        self._over: set[str] = set()
        self._asked = float("-inf")

    def ask(self) -> None:
        """Poll squeue, at most once per poll interval; without an answer the states stay."""
        if time.monotonic() - self._asked < self._seconds:
            return
        states = job_states(self._name)
        self._asked = time.monotonic()
        if states is None:
            return
        over = {job_id for job_id in self._job_ids if states.get(job_id, "COMPLETED") in OVER}
        self.lost = (
            over & self._over
        )  # over in two polls: a job's last files may appear late on a network file system
        self._over = over
        self.running = {job_id for job_id, state in states.items() if state == "RUNNING"}


def check_slurm() -> None:
    """Check that jobs can be submitted here.

    Raises:
        EngineError: If submitit or a Slurm command is missing, or the controller does not answer.
    """
    try:
        import submitit  # noqa: F401
    except ImportError:
        raise EngineError(
            "the engine slurm needs submitit; install it with: pip install 'ema-lab[slurm]'"
        ) from None
    for program in ("sbatch", "squeue", "scancel", "srun"):
        if shutil.which(program) is None:
            raise EngineError(
                f"the engine slurm needs {program} on the PATH; start the command on a login node"
            )
    answer = subprocess.run(["squeue", "--name=ema-lab"], capture_output=True, text=True, check=False)
    if answer.returncode:
        raise EngineError(f"Slurm does not answer here: {answer.stderr.strip().splitlines()[-1]}")


def submit(jobs: Sequence[Job], options: SlurmSpec, session: Session, nodes: int = 1) -> dict[str, Job]:
    """Submit jobs as one array, each on some machines, and return them by their ids.

    Raises:
        EngineError: If Slurm refuses the jobs; the message quotes Slurm.
    """
    from submitit import SlurmExecutor
    from submitit.core.utils import FailedJobError, FailedSubmissionError
    from submitit.slurm.slurm import SlurmJobEnvironment

    python = launcher(_warning(SlurmJobEnvironment))
    executor = SlurmExecutor(session.folder, max_num_timeout=options.max_timeouts, python=python)
    executor.update_parameters(**parameters_of(_name(session), options, nodes))
    stderr = io.StringIO()
    try:
        with contextlib.redirect_stderr(stderr):  # submitit copies sbatch's errors there
            submitted = executor.submit_array(jobs)
    except (FailedJobError, FailedSubmissionError, OSError) as error:
        lines = [line.partition("error: ")[2] for line in stderr.getvalue().splitlines() if "error: " in line]
        raise EngineError(f"Slurm refuses the jobs: {'; '.join(lines) or error}") from None
    return dict(zip((item.job_id for item in submitted), jobs, strict=True))


def parameters_of(name: str, options: SlurmSpec, nodes: int = 1) -> dict[str, Any]:
    """Return submitit's parameters of jobs that run one task on each of some machines."""
    parameters = {
        "job_name": name,
        "partition": options.partition,
        "time": options.time,
        "gpus_per_task": options.gpus_per_task or None,
        "cpus_per_task": options.cpus_per_task,
        "mem": None if options.mem_gb is None else f"{round(options.mem_gb * 1024)}MB",
        "array_parallelism": options.array_parallelism,
        "signal_delay_s": options.grace_seconds,
        "setup": list(options.setup) or None,
        "additional_parameters": dict(options.additional) or None,
    }
    if nodes > 1:  # Slurm wants a number of all tasks for GPUs per task
        parameters["gpus_per_node"] = parameters.pop("gpus_per_task")
        parameters |= {"nodes": nodes, "ntasks_per_node": 1, "srun_args": list(SRUN)}
    return {key: value for key, value in parameters.items() if value is not None}


def launcher(warning: str) -> str:
    """Return the shell command that starts Python with a signal blocked until the job unblocks it."""
    return f"{shlex.quote(sys.executable)} -I -S -c {shlex.quote(LAUNCH.format(signal=warning))}"


def _warning(environment: Any) -> str:
    """Return the name of the signal that Slurm sends before a job's time limit."""
    return f"SIG{environment.USR_SIG}"


def job_states(name: str) -> Mapping[str, str] | None:
    """Return the state of each job with a name; None if the controller does not answer."""
    command = ["squeue", "--noheader", "--array", "--states=all", f"--name={name}", "--format=%i %T"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    except (subprocess.SubprocessError, OSError) as error:
        logger.warning("squeue gives no answer (%s); asking again", error)
        return None
    return dict(line.split() for line in answer.stdout.splitlines())


def _is_running(job_id: str) -> bool:
    """Return whether Slurm lets the job continue: it is neither cancelled nor requeued."""
    command = ["squeue", "--noheader", "--states=all", f"--jobs={job_id}", "--format=%T"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return answer.stdout.strip() in {"RUNNING", "PREEMPTED"}


def _cancel(session: Session) -> None:
    """Cancel all jobs of a session, and wait until they have ended and their locks are free."""
    name = _name(session)
    subprocess.run(["scancel", f"--name={name}"], capture_output=True, check=False, timeout=60)
    give_up = time.monotonic() + CANCEL_SECONDS
    while time.monotonic() < give_up:
        states = job_states(name)
        if states is not None and set(states.values()) <= OVER:
            return
        time.sleep(TICK_SECONDS)


def _name(session: Session) -> str:
    return f"ema-lab-{session.folder.name}"


def _log(session: Session, job_id: str) -> str:
    return str(session.folder / f"{job_id}_0_log.err")

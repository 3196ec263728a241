"""Training of everything pending in an ablation: choose, check, train, and report each step as an event."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from ema_lab.ablation.ablation import Ablation
from ema_lab.ablation.grid import Cell
from ema_lab.attention.kernels.choice import FACT, kernel_on
from ema_lab.collector import without_collector
from ema_lab.errors import SpecError, StoreError
from ema_lab.execution.claim import Task, note_sources
from ema_lab.execution.engines.engine import Engine, Progress
from ema_lab.execution.estimate import estimates, longest_first
from ema_lab.execution.executor import execute
from ema_lab.execution.threads import available_cores, default_workers
from ema_lab.specs.run import RunSpec
from ema_lab.store.disk import by_disk
from ema_lab.store.job import Train
from ema_lab.store.quarantine import quarantine_bystanders, refresh
from ema_lab.store.record import NODES, WORLD_SIZE
from ema_lab.store.source import Sources
from ema_lab.store.staleness import Staleness
from ema_lab.store.store import RunStore
from ema_lab.store.survey import RunStatus, Survey
from ema_lab.tracking.live import check_tracker_name
from ema_lab.wording import are, number_of
from ema_lab.workflow import events
from ema_lab.workflow.data_files import check_files, copies_of, copies_remarks, data_of
from ema_lab.workflow.execution import Execution, Watch, ignore
from ema_lab.workflow.outcome import GridOutcome, failed_cells, stale_counts
from ema_lab.workflow.text import unhashed_lines
from ema_lab.workflow.train.machines import invited
from ema_lab.workflow.train.threads import (
    expected_threads,
    settled_threads,
    unclean_pairs,
    visible_gpus,
    whole_runs,
)


def check_models(ablation: Ablation) -> None:
    """Build every distinct model on the meta device, before anything is measured.

    Raises:
        SpecError: With one line for each variant that does not fit.
    """
    from ema_lab.models.build import check_model

    check_each(ablation, check_model)


def check_runs(ablation: Ablation, watch: Watch) -> None:
    """Build every distinct model and check that it can be trained on its data.

    Parameters that the recipe leaves untrained are a `Remark` of their row.

    Raises:
        SpecError: With one line for each variant that does not fit.
    """
    from ema_lab.tasks.task import check_run

    check_each(ablation, check_run, watch)
    for remark in (*_untrained(ablation), *_started(ablation), *unhashed_remarks(ablation)):
        watch(remark)


def unhashed_remarks(ablation: Ablation) -> Iterator[events.Remark]:
    """Yield a remark for each module that users' code imports and that no source hash covers."""
    sources, modules = Sources(), dict[str, Path]()
    for cells in ablation.rows().values():
        modules |= sources.unhashed(cells[0].spec)
    yield from (events.Remark("", line) for line in unhashed_lines(modules))


def _untrained(ablation: Ablation) -> Iterator[events.Remark]:
    """Yield a remark for each row with parameters in no optimizer group."""
    from ema_lab.models.build import build_model
    from ema_lab.training.optimisation import untrained_parameters

    for name, cells in ablation.rows().items():
        decays = cells[0].spec.recipe.decays if cells else "all"
        if decays != "yolov5":
            continue
        if names := untrained_parameters(build_model(cells[0].spec, device="meta"), decays):
            subject = f"{number_of(len(names), 'parameter')} {are(len(names))}"
            yield events.Remark(name, f"{subject} never trained (decays: yolov5), such as {names[0]}")


def _started(ablation: Ablation) -> Iterator[events.Remark]:
    """Yield a remark for each row that starts from a file of weights: the number of tensors that fit.

    A file that is not in the current folder may lie in the data folder of the workers, who check it too.
    """
    from ema_lab.models.build import build_model
    from ema_lab.models.start import start_summary, start_weights

    for name, cells in ablation.rows().items():
        start = cells[0].spec.model.start if cells else None
        if start is None or (start.weights is None and not Path(start.file).is_file()):
            continue
        try:
            facts = start_summary(start_weights(build_model(cells[0].spec, device="meta"), start), start)
        except SpecError as error:
            raise SpecError(f"{ablation.path}: {name}: {error}") from None
        total = facts["tensors"]
        assert isinstance(total, int)
        taken = f"{facts['tensors_taken']} of {number_of(total, 'tensor')}"
        yield events.Remark(name, f"{taken} start from {start.source}")


def check_each(ablation: Ablation, check: Callable[[RunSpec], None], watch: Watch = ignore) -> None:
    """Call `check` for every distinct model, each a `ModelChecked`, and collect all problems in one error.

    Raises:
        SpecError: With one line for each variant that `check` refuses.
    """
    note_sources(cell.spec for cell in ablation.cells)
    problems: dict[str, list[Cell]] = {}
    models = {_model_and_mode(cell.spec): cell for cell in ablation.cells}
    try:
        for number, cell in enumerate(models.values(), start=1):
            watch(events.ModelChecked(cell.row, number, len(models)))
            try:
                check(cell.spec)
            except SpecError as error:
                problems.setdefault(str(error), []).append(cell)
    finally:
        watch(events.ChecksEnded())
    if problems:
        from ema_lab.workflow.train.model_problems import problem_line

        raise SpecError("\n".join(problem_line(ablation, cells, text) for text, cells in problems.items()))


def _model_and_mode(spec: RunSpec) -> tuple[object, ...]:
    """Return the key of a model's check: its structure, and the recipe's keys that change the model."""
    recipe = spec.recipe
    return spec.model_key, recipe.compile, recipe.dropout, recipe.drop_path, recipe.sync_batch_norm


def train_grid(
    ablation: Ablation, how: Execution, watch: Watch, *, threads_of: Ablation | None = None
) -> GridOutcome:
    """Train the runs of an ablation that have no result yet.

    Args:
        ablation: Its cells.
        how: Settings of execution.
        watch: Observer of the events.
        threads_of: Ablation whose number of threads the runs get; by default this one.
    """
    check_tracker_name(how.track)  # also where nothing is left to train
    store = how.run_store
    rows = {cell.run_id: cell.row for cell in reversed(ablation.cells)}
    tasks = [Task(spec, ablation.name, rows[spec.run_id]) for spec in ablation.runs()]
    survey = Survey(store, how.max_attempts)
    statuses = {task.spec.run_id: survey.status(task.spec) for task in tasks}
    done = [task.spec for task in tasks if statuses[task.spec.run_id].state == "done"]
    for line in quarantine_bystanders(store, done):
        watch(events.Remark("", f"{line}; the result stays"))
    refreshed = {run_id for run_id, status in statuses.items() if status.stale and how.refresh}
    pending = [
        task for task in tasks if _is_pending(statuses[task.spec.run_id]) or task.spec.run_id in refreshed
    ]
    progress = Progress(0)
    if pending:
        ordered = _longest_first(pending, ablation, store)
        progress = Training(ablation, ordered, how, watch, threads_of or ablation).run()
    by_state = {run_id: status.state for run_id, status in statuses.items() if run_id not in refreshed}
    given_up = {run_id for run_id, status in statuses.items() if status.state == "failed"}
    outcome = GridOutcome(
        ablation,
        store,
        trained=tuple(progress.done),
        done_before=tuple(run_id for run_id, state in by_state.items() if state == "done"),
        elsewhere=tuple(progress.elsewhere),
        failed=tuple(failed_cells(store, tasks, progress, given_up)),
        left=_still_pending(pending, progress) if time.time() >= how.stop_at else (),
        stale={} if how.refresh else stale_counts(statuses),
        max_attempts=how.max_attempts,
    )
    watch(events.GridEnded(outcome))
    return outcome


def _is_pending(status: RunStatus) -> bool:
    return status.state in {"pending", "running"}


def _still_pending(pending: Sequence[Task], progress: Progress) -> tuple[str, ...]:
    ended = {*progress.done, *progress.elsewhere, *progress.failed}
    return tuple(task.spec.run_id for task in pending if task.spec.run_id not in ended)


def _longest_first(pending: Sequence[Task], ablation: Ablation, store: RunStore) -> list[Task]:
    """Sort tasks so that several workers end earliest, using the known times."""
    known = estimates(ablation.runs(), store)
    by_id = {task.spec.run_id: task for task in pending}
    return [by_id[spec.run_id] for spec in longest_first([task.spec for task in pending], known)]


@dataclass(frozen=True)
class Training:
    """The pending runs of an ablation, and how they are trained.

    `threads_of`: the ablation whose number of threads they get.
    """

    ablation: Ablation
    pending: Sequence[Task]
    how: Execution
    watch: Watch
    threads_of: Ablation

    @property
    def store(self) -> RunStore:
        return self.how.run_store

    @property
    def specs(self) -> list[RunSpec]:
        return [task.spec for task in self.pending]

    def run(self) -> Progress:
        """Check everything that can fail, then train; nothing is moved or written before the checks pass."""
        how, elsewhere = self.how, self.how.elsewhere
        slots = self._gpu_slots()
        threads = expected_threads(self.store, *self._thread_facts())
        workers = how.workers or len(slots) or default_workers((threads or 1) * how.devices)
        workers = 1 if how.nodes > 1 and elsewhere is None else min(workers, len(self.pending))
        self._announce(workers, threads)
        from ema_lab.execution.engines.local import LocalEngine  # loads asyncio, which plans do not need
        from ema_lab.one_run.pipeline import load_training

        local = LocalEngine(workers, how.timeout, slots if len(slots) > 1 else (), how.stop_at)
        with local.loading(load_training) if elsewhere is None else nullcontext():
            device, requested = self._check()
            self._check_disk(workers)
        here = _expected_environment(device, threads, how.attention_kernel, is_here=elsewhere is None)
        here |= {WORLD_SIZE: how.devices * how.nodes, NODES: how.nodes}
        if unclean := unclean_pairs(whole_runs(self.ablation), self.store, self.specs, here):
            self.watch(unclean)
        is_here = elsewhere is None and how.nodes == 1  # else the cores are not known
        cores = available_cores() // (workers * how.devices) if is_here else 0
        train = self._train_function(requested, cores)
        with invited(self.store, 0 if elsewhere else how.nodes - 1, self.watch):
            return self._execute(elsewhere.engine if elsewhere else local, train, device)

    def _execute(self, engine: Engine, train: Train, device: str) -> Progress:
        """Train, once every check has passed."""
        how = self.how
        if how.refresh:  # only now, when every check has passed
            self.watch(events.StaleKept(len(refresh(self.store, self.specs, Staleness()))))
        self.watch(events.TrainingStarted(tuple(self.pending), self.store))
        try:
            return execute(
                self.pending,
                train=train,
                store=self.store,
                engine=engine,
                max_attempts=how.max_attempts,
                device=device,
                watch=_Reporter(self.pending, self.watch),
            )
        finally:
            self.watch(events.TrainingEnded())

    def _gpu_slots(self) -> tuple[str, ...]:
        """Return the GPUs of each slot, as `CUDA_VISIBLE_DEVICES` names them.

        Raises:
            SpecError: If a run needs more GPUs than there are, or slots are asked for without GPUs.
        """
        devices = self.how.devices
        gpus = visible_gpus() if self.how.device != "cpu" and self.how.elsewhere is None else ()
        if gpus and len(gpus) < devices:
            raise SpecError(
                f"--devices {devices} needs {devices} GPUs, and this machine shows {len(gpus)}; "
                "use --device cpu for processes without GPUs"
            )
        if self.how.gpu_slots > 1 and not gpus:
            rule = "shares GPUs, and there is none to share; --workers sets how many runs train"
            raise SpecError(f"--gpu-slots {self.how.gpu_slots} {rule}")
        starts = range(0, len(gpus) - devices + 1, devices)
        groups = [",".join(gpus[start : start + devices]) for start in starts]
        if self.how.nodes > 1:
            groups = groups[:1]
        return tuple(group for _ in range(self.how.gpu_slots) for group in groups)

    def _announce(self, workers: int, threads: int | None) -> None:
        elsewhere, name = self.how.elsewhere, self.ablation.name
        engine = elsewhere.options.engine if elsewhere else None
        self.watch(events.RunsChosen(name, len(self.pending), workers, threads, engine))
        if rounded := sum(spec.recipe.evaluated_in == "bf16" for spec in self.specs):
            self.watch(events.RoundedEvaluation(name, rounded))

    def _check(self) -> tuple[str, str]:
        """Check tracker, models and data; return the device in the attempts, and the one in the runs."""
        with without_collector():
            from ema_lab.tracking.live import check_tracker
            from ema_lab.training.compiled import check_compiler
            from ema_lab.training.machine import check_devices, choose_device
        how, elsewhere = self.how, self.how.elsewhere
        for spec in self.specs:
            check_devices(spec, how.devices, how.nodes)
        check_tracker(how.track)
        requested = elsewhere.options.device if elsewhere and how.device == "auto" else how.device
        device = requested if elsewhere else str(choose_device(requested))
        if elsewhere is None and any(spec.recipe.compile != "off" for spec in self.specs):
            check_compiler(choose_device(requested))
        pending_ids = {spec.run_id for spec in self.specs}
        cells = tuple(cell for cell in self.ablation.cells if cell.run_id in pending_ids)
        check_runs(replace(self.ablation, cells=cells), self.watch)
        for data in data_of(self.specs):
            check_files(data, Path(how.data))  # downloads a missing data set before any worker starts
        return device, requested

    def _check_disk(self, workers: int) -> None:
        """Raise a `StoreError` if checkpoints or resized images do not fit on their disks."""
        from ema_lab.training.disk import copies_needs, disk_need

        copies = copies_of(data_of(self.specs), Path(self.how.data))
        for need in by_disk([disk_need(self.specs, self.store.root, workers), *copies_needs(copies)]):
            if need.is_short:
                raise StoreError(need.refusal)
            if need.is_notable:
                self.watch(events.Remark("disk", need.sentence))
        for remark in copies_remarks(copies):
            self.watch(remark)

    def _train_function(self, device: str, cores: int) -> Callable[..., Any]:
        from ema_lab.one_run.pipeline import Machine, train_run

        threads = settled_threads(self.store, *self._thread_facts())
        how = self.how
        machine = Machine(
            how.data_folder,
            device,
            threads,
            how.loader_workers,
            how.attention_kernel,
            how.profile,
            how.checkpoint_minutes,
            how.stop_at,
            how.devices,
            how.rank_timeout,
            how.nodes,
            cores,
        )
        return partial(train_run, machine=machine, track=self.how.track)

    def _thread_facts(self) -> tuple[Ablation, int | None, str]:
        """Return ablation, requested threads and device, which decide the number of threads.

        The options of an engine count as requests.
        """
        how = self.how
        if how.elsewhere is None:
            return self.threads_of, how.threads, how.device
        options = how.elsewhere.options
        return self.threads_of, how.threads or options.threads, options.device


def _expected_environment(
    device: str, threads: int | None, kernel: str | None, *, is_here: bool
) -> dict[str, Any]:
    """Return the environment that new records will have; the machines of a cluster are not known yet."""
    import torch

    from ema_lab.training.environment import device_name, instruction_set, processor, versions

    if not is_here:
        return {"num_threads": threads, "versions": versions()}
    facts = {"device": device_name(torch.device(device)), "processor": processor()}
    facts["instruction_set"] = instruction_set()
    facts[FACT] = kernel_on(torch.device(device).type, kernel)
    return {**facts, "num_threads": threads or torch.get_num_threads(), "versions": versions()}


@dataclass
class _Reporter:
    """Turns the progress of an engine into events; each run's end is reported once."""

    tasks: Sequence[Task]
    watch: Watch
    reported: set[str] = field(default_factory=set)

    def __call__(self, progress: Progress) -> None:
        by_id = {task.spec.run_id: task for task in self.tasks}
        for run_id in (*progress.done, *progress.elsewhere, *progress.failed):
            if run_id not in self.reported:
                self.reported.add(run_id)
                state = "failed" if run_id in progress.failed else "done"
                self.watch(events.RunEnded(by_id[run_id], state, len(self.reported), progress.total))  # type: ignore[arg-type]
        self.watch(events.TrainingProgress(progress))

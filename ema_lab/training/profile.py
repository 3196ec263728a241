"""Profile of a run: seconds by phase over the whole run, and torch's trace of a few steps."""

import os
import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.profilers import Profiler
from torch.profiler import ProfilerActivity, record_function
from torch.profiler import profile as torch_profile

from ema_lab.files import atomic_write, write_text
from ema_lab.store.layout import PROFILE, TRACE
from ema_lab.training.environment import device_name
from ema_lab.wording import number_of

UNTRACED_STEPS = 3  # before the trace: they allocate memory, and the first one compiles
TRACED_STEPS = 5
PHASES = {  # by the end of Lightning's and of our own names
    "train_dataloader_next": "data",
    "batch_to_device": "data",
    "forward": "forward",
    "backward": "backward",
    "optimizer_step": "optimizer",
    "final_evaluation": "test",
    "on_train_epoch_end": "epoch end",
}
MEANINGS = {
    "data": "images, augmentation, normalisation",
    "forward": "model and loss",
    "backward": "gradients",
    "optimizer": "optimizer, schedule, weight average",
    "epoch end": "evaluation, curve, checkpoint",
    "test": "final evaluation and predictions",
    "other": "building, loading, compiling, Lightning",
}
COMMUNICATION = ("gloo:", "nccl:")  # begin of the names of exchanges between devices
STEP = "run_training_batch"  # Lightning's name of a step


class RunProfiler(Profiler):
    """Lightning profiler that adds up seconds by phase and traces some steps of a run.

    It waits for the device at the borders of each phase, which makes a run on CUDA slower. Writing the trace,
    which takes seconds, is not counted.

    Args:
        folder: The run's folder.
        device: The run's device.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        super().__init__()
        self._folder = folder
        self._device = device
        self._began = time.perf_counter()
        self._started: dict[str, float] = {}
        self._marks: dict[str, record_function] = {}
        self._seconds = dict.fromkeys(MEANINGS, 0.0)
        self._steps = 0
        self._trace: torch_profile | None = None
        self._operators = 0
        self._traced = 0
        self._communication = 0.0  # seconds in the traced steps

    def start(self, action_name: str) -> None:
        if action_name == STEP and self._steps == UNTRACED_STEPS:
            self._start_trace()
        phase = _phase(action_name)
        if self._trace is not None and (phase or action_name == STEP):
            self._marks[action_name] = record_function(phase or STEP)
            self._marks[action_name].__enter__()
        if phase is not None:
            self._started[action_name] = self._now()

    def stop(self, action_name: str) -> None:
        if action_name in self._marks:
            self._marks.pop(action_name).__exit__(None, None, None)
        if action_name == STEP:
            self._steps += 1
            if self._trace is not None:
                self._traced += 1
                if self._traced == TRACED_STEPS:
                    self._end_trace()
        phase = _phase(action_name)
        if phase is not None and action_name in self._started:
            self._seconds[phase] += self._now() - self._started.pop(action_name)

    def finish(self, run_id: str, compile_seconds: float) -> None:
        """End the trace and write the summary to the run's folder.

        Args:
            run_id: The run.
            compile_seconds: Seconds of the first forward pass in which this process compiled the model.
        """
        self.close()
        total = self._now() - self._began
        self._seconds["forward"] -= compile_seconds
        self._seconds["other"] = total - sum(self._seconds.values())
        write_text(self._folder / PROFILE, self._text(run_id, total), durable=False)

    def close(self) -> None:
        """End a trace that has begun."""
        if self._trace is not None:
            self._end_trace()

    def _text(self, run_id: str, total: float) -> str:
        steps = number_of(self._steps, "step")
        lines = [f"{run_id}: {total:.1f} s, {steps}, on {device_name(self._device)}"]
        lines += [
            f"{phase:<10} {seconds:9.2f} s {100 * seconds / total:5.1f} %  {MEANINGS[phase]}"
            for phase, seconds in self._seconds.items()
        ]
        if self._traced:
            where = f"a step in steps {UNTRACED_STEPS + 1} to {UNTRACED_STEPS + self._traced}"
            lines.append(f"{self._operators / self._traced:.0f} operators {where}")
            if self._communication:
                seconds = self._communication / self._traced
                lines.append(f"{seconds:.4f} s of communication with other devices {where}")
            lines.append(f"their trace, for ui.perfetto.dev: {self._folder / TRACE}")
        else:
            lines.append(f"no trace: it would begin after {UNTRACED_STEPS} steps")
        return "\n".join([*lines, ""])

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()

    def _start_trace(self) -> None:
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it prints lines of its own to the terminal
        kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self._device.type == "cuda" else [])]
        self._trace = torch_profile(activities=kinds)
        self._trace.__enter__()

    def _end_trace(self) -> None:
        trace, self._trace = self._trace, None
        assert trace is not None
        began = time.perf_counter()
        self._write(trace)
        self._began += time.perf_counter() - began  # no time of the run

    def _write(self, trace: torch_profile) -> None:
        trace.__exit__(None, None, None)
        events = trace.events()
        steps = [event.time_range for event in events if event.name == STEP]
        self._operators = sum(
            event.name.startswith("aten::") and any(_is_within(event.time_range, step) for step in steps)
            for event in events
        )
        exchanges = [event for event in events if event.name.startswith(COMMUNICATION)]
        self._communication = sum(event.time_range.elapsed_us() for event in exchanges) / 1e6
        with atomic_write(self._folder / TRACE) as partial:
            trace.export_chrome_trace(str(partial))


def _is_within(inner: Any, outer: Any) -> bool:
    return bool(outer.start <= inner.start < outer.end)


def _phase(action: str) -> str | None:
    """Return the phase that an action of Lightning's or of ours belongs to, if any."""
    return PHASES.get(action.rpartition(".")[2])

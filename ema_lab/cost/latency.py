"""How long a model takes beside its baseline: both in turn, so that what slows one slows the other.

A shared machine's speed drifts, and its noise has a memory. So each round times A B B A: a drift that is
linear over the round cancels. The ratio is the median over rounds; its interval comes from a bootstrap
that draws whole blocks of neighbouring rounds (Kuensch, 1989, "The jackknife and the bootstrap for general
stationary observations"), which keeps what memory is left.
"""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

Work = Callable[[], object]
Timer = Callable[[Work], float]
CONFIDENCE = 0.99
RESAMPLES = 4000
WARM_UP = 5  # calls whose median is held against that of the five before
WARM_UP_LIMIT = 60


@dataclass(frozen=True)
class Comparison:
    """Medians of one call in seconds, and variant / baseline with its interval.

    `stable`: whether warming up ended because times no longer changed, not because it took too long.
    """

    baseline_seconds: float
    variant_seconds: float
    ratio: float
    low: float
    high: float
    rounds: int
    stable: bool = True

    @property
    def differs(self) -> bool:
        """Whether the interval leaves out 1."""
        return not self.low <= 1 <= self.high


def compare(
    baseline: Work,
    variant: Work,
    timer: Timer,
    *,
    rounds: int = 40,
    confidence: float = CONFIDENCE,
    watch: Callable[[int], None] = lambda done: None,
) -> Comparison:
    """Time two calls in turn and estimate the ratio of their times.

    Args:
        baseline: What the variant is compared with.
        variant: What is timed against it.
        timer: Calls something and returns the seconds that it took.
        rounds: Of two calls of each; at least 8.
        confidence: Of the interval.
        watch: Told how many rounds are done.

    Raises:
        ValueError: If there are too few rounds for an interval.
    """
    if rounds < 8:
        raise ValueError(f"rounds must be at least 8, got {rounds}")
    stable = all([warm_up(baseline, timer), warm_up(variant, timer)])
    times: list[tuple[float, float, float, float]] = []
    for number in range(rounds):
        order = (
            (baseline, variant, variant, baseline) if number % 2 else (variant, baseline, baseline, variant)
        )
        first, second, third, fourth = (timer(work) for work in order)
        outer, inner = (first, fourth), (second, third)
        times.append((*outer, *inner) if number % 2 else (*inner, *outer))
        watch(number + 1)
    logs = [math.log((c + d) / (a + b)) for a, b, c, d in times]
    low, high = median_interval(logs, confidence)
    return Comparison(
        baseline_seconds=statistics.median(time for a, b, _, _ in times for time in (a, b)),
        variant_seconds=statistics.median(time for _, _, c, d in times for time in (c, d)),
        ratio=math.exp(statistics.median(logs)),
        low=math.exp(low),
        high=math.exp(high),
        rounds=rounds,
        stable=stable,
    )


def warm_up(work: Work, timer: Timer) -> bool:
    """Call until five calls take as long as the five before, within 5 %; return whether that came."""
    times: list[float] = []
    while len(times) < WARM_UP_LIMIT:
        times += [timer(work) for _ in range(WARM_UP)]
        if len(times) < 2 * WARM_UP:
            continue
        before, after = (
            statistics.median(part) for part in (times[-2 * WARM_UP : -WARM_UP], times[-WARM_UP:])
        )
        if abs(after - before) <= 0.05 * before:
            return True
    return False


def median_interval(values: Sequence[float], confidence: float) -> tuple[float, float]:
    """Return the interval of a median by a circular block bootstrap, the same for the same values.

    A few blocks tell little of how much blocks vary: as Student's t is wider than the normal
    distribution with that many values, so is the interval.
    """
    from scipy.stats import norm, t

    count = len(values)
    block = max(2, round(1.5 * count ** (1 / 3)))
    generator = np.random.default_rng(0)
    starts = generator.integers(0, count, (RESAMPLES, math.ceil(count / block)))
    picked = (starts[:, :, None] + np.arange(block)).reshape(RESAMPLES, -1)[:, :count] % count
    medians = np.median(np.asarray(values)[picked], axis=1)
    centre = statistics.median(values)
    tail = (1 - confidence) / 2
    low, high = np.quantile(medians, [tail, 1 - tail])
    wider = float(t.ppf(1 - tail, count / block - 1) / norm.ppf(1 - tail))
    return centre + wider * (float(low) - centre), centre + wider * (float(high) - centre)


def timer_of(device: torch.device) -> Timer:
    """Return what times a call: the clock on a CPU, a pair of events on a GPU."""
    return _by_events if device.type == "cuda" else _by_clock


def _by_clock(work: Work) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _by_events(work: Work) -> float:
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    work()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / 1000


def inference(model: nn.Module, images: Tensor, call: Callable[[Tensor], object] | None = None) -> Work:
    """Return a call of one forward pass in eval mode, without gradients.

    Args:
        model: The model.
        images: Its input.
        call: What is called in the place of the model: with what follows on its outputs, say.
    """
    model.eval()

    def work() -> None:
        with torch.inference_mode():
            (call or model)(images)

    return work


def peak_bytes(work: Work, device: torch.device) -> int | None:
    """Return the most GPU memory in use during a call, whatever it is used for; None on a CPU.

    For a CPU torch keeps no such count. What else is on the GPU counts: keep one model there at a time.
    """
    if device.type != "cuda":
        return None
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    work()
    torch.cuda.synchronize(device)
    return int(torch.cuda.max_memory_allocated(device))

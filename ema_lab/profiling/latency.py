"""Latency of a model relative to its baseline: both are timed in turn, so that a slowdown hits both.

The speed of a shared machine drifts, and its noise is autocorrelated. Each round times A B B A, which
cancels a drift that is linear over the round. The ratio is the median over rounds. Its interval comes from
a bootstrap of whole blocks of neighbouring rounds, which keeps their autocorrelation. See Kuensch (1989),
"The jackknife and the bootstrap for general stationary observations".
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
WARM_UP = 5  # calls per median; the last median is compared with the one before
WARM_UP_LIMIT = 60  # calls


@dataclass(frozen=True)
class Comparison:
    """Median seconds per call, and the ratio variant / baseline with its confidence interval.

    `stable` is False if the times still changed when the warm-up reached its limit of calls.
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
        """True if the interval excludes 1."""
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
        baseline: The reference call.
        variant: The call to compare with the reference.
        timer: Makes a call and returns its duration in seconds.
        rounds: Number of rounds, of two calls of each; at least 8.
        confidence: Confidence level of the interval.
        watch: Receives the number of finished rounds after each of them.

    Raises:
        ValueError: If there are fewer than 8 rounds, too few for an interval.
    """
    if rounds < 8:
        raise ValueError(f"rounds must be at least 8, got {rounds}")
    stable = all([warm_up(baseline, timer), warm_up(variant, timer)])
    times: list[tuple[float, float, float, float]] = []
    for number in range(rounds):
        # The outer pair alternates, so that being first or last in a round favours neither.
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
    """Call until two successive medians of five calls agree within 5 %; return whether they do."""
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
    """Return the confidence interval of a median by a circular block bootstrap.

    The same values always give the same interval.
    """
    from scipy.stats import norm, t

    count = len(values)
    # A block of one value would ignore autocorrelation; n^(1/3) is the rate that minimises the error of a
    # bootstrap variance (Hall, Horowitz and Jing, 1995, "On blocking rules for the bootstrap").
    block = max(2, round(1.5 * count ** (1 / 3)))
    generator = np.random.default_rng(0)  # fixed, so that a table does not change when it is made again
    starts = generator.integers(0, count, (RESAMPLES, math.ceil(count / block)))
    # Blocks wrap around the end: without that, the first and last rounds would be drawn less often.
    indices = (starts[:, :, None] + np.arange(block)).reshape(RESAMPLES, -1)[:, :count] % count
    medians = np.median(np.asarray(values)[indices], axis=1)
    centre = statistics.median(values)
    tail = (1 - confidence) / 2
    low, high = np.quantile(medians, [tail, 1 - tail])
    # Few blocks underestimate how much blocks vary, so the interval widens as Student's t does.
    widening = float(t.ppf(1 - tail, count / block - 1) / norm.ppf(1 - tail))
    return centre + widening * (float(low) - centre), centre + widening * (float(high) - centre)


def timer_of(device: torch.device) -> Timer:
    """Return the timer of a device: the clock on a CPU, a pair of CUDA events on a GPU."""
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
    """Return a function that runs one forward pass in eval mode, without gradients.

    Args:
        model: The model.
        images: Its input.
        call: Function to time in place of the model, such as one that also decodes the outputs.
    """
    model.eval()

    def work() -> None:
        with torch.inference_mode():
            (call or model)(images)

    return work


def peak_bytes(work: Work, device: torch.device) -> int | None:
    """Return the peak GPU memory in bytes during a call; None on a CPU, where torch keeps no such count.

    Everything on the GPU counts, so keep one model there at a time.
    """
    if device.type != "cuda":
        return None
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    work()
    torch.cuda.synchronize(device)
    return int(torch.cuda.max_memory_allocated(device))

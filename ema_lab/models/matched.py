"""Cost-matched control: plain bottlenecks that cost as much as a named attention module."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import gcd
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ema_lab.profiling.measure import measure_cost
from ema_lab.registry.catalogue import ATTENTIONS

TOLERANCE = 0.01


class SiteShape(Protocol):
    """Shape of a site, as far as matching needs it: channels, and height of a square map in pixels."""

    @property
    def channels(self) -> int: ...
    @property
    def height(self) -> int: ...


class Bottleneck(nn.Module):
    """x + W2 relu(W1 x): two 1 x 1 convolutions without bias. (B, C, H, W) -> the same.

    Parameters: 2 C width; with width 0 it is the identity.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, width, 1, bias=False) if width else None
        self.expand = nn.Conv2d(width, channels, 1, bias=False) if width else None

    def forward(self, x: Tensor) -> Tensor:
        if self.reduce is None or self.expand is None:
            return x
        added: Tensor = self.expand(F.relu(self.reduce(x)))
        return x + added


class Matched(Bottleneck):
    """Bottlenecks x + W2 relu(W1 x) whose total cost matches another module's within 1 %.

    Attention that does not beat this control gains by its parameters alone. Each place gets a width in
    proportion to the module's cost there, down to 0. The widths are then adjusted until the total matches.

    Input and output: (B, C, H, W). Parameters: 2 C width at each place.

    Args:
        of: The module to match: a name, or a mapping with `name` and its options.
        by: `parameters`, or `macs`: multiply-adds as `measure_cost` counts them.

    Raises:
        ValueError: If no whole widths reach the total; the message names the nearest.
    """

    def __init__(
        self,
        channels: int,
        *,
        of: Mapping,  # type: ignore[type-arg]
        by: Literal["parameters", "macs"] = "parameters",
    ) -> None:
        if by == "macs":
            raise ValueError("matched needs a model's image size to match MACs: use it in a run spec.")
        super().__init__(channels, matched_widths([_parameters(of, channels)], [2 * channels])[0])

    @classmethod
    def across(
        cls,
        sites: Sequence[SiteShape],
        *,
        of: Mapping[str, object],
        by: Literal["parameters", "macs"] = "parameters",
    ) -> list[Callable[[], nn.Module]]:
        """Return a builder of the bottleneck of each site of a model.

        Raises:
            ValueError: If no whole widths match the module's total.
        """
        if by == "parameters":
            targets = [_parameters(of, site.channels) for site in sites]
            units = [2 * site.channels for site in sites]
        else:
            targets = [_macs(of, site.channels, site.height) for site in sites]
            units = [2 * site.channels * site.height**2 for site in sites]
        widths = matched_widths(targets, units, by)
        return [partial(Bottleneck, site.channels, width) for site, width in zip(sites, widths, strict=True)]


def matched_widths(targets: Sequence[int], units: Sequence[int], by: str = "parameters") -> list[int]:
    """Return whole widths whose total cost, the sum of width x unit, is the targets' sum within 1 %.

    Args:
        targets: Cost of the module to match, at each place.
        units: Cost of one unit of width, at each place.
        by: Name of the cost, for the message.

    Raises:
        ValueError: If the targets are zero, or the nearest total is more than 1 % away.
    """
    total = sum(targets)
    if total == 0:
        raise ValueError(f"the module to match adds no {by}: there is nothing to match; use identity")
    widths = _in_proportion(targets, units)
    if abs(_total(widths, units) - total) > TOLERANCE * total:
        widths = _nearest(total, units)
    reached = _total(widths, units)
    if abs(reached - total) > TOLERANCE * total:
        raise ValueError(
            f"1 x 1 bottlenecks cannot match {total:,} {by} within 1 %: the nearest total is {reached:,} "
            f"(one unit of width costs {min(units):,} at least)."
        )
    return widths


def _total(widths: Sequence[int], units: Sequence[int]) -> int:
    return sum(width * unit for width, unit in zip(widths, units, strict=True))


def _in_proportion(targets: Sequence[int], units: Sequence[int]) -> list[int]:
    """Return each place's share, rounded down; then spend the remainder on large units first."""
    widths = [target // unit for target, unit in zip(targets, units, strict=True)]
    missing = sum(targets) - _total(widths, units)
    descending = sorted(range(len(units)), key=lambda index: -units[index])
    for index in descending:
        widths[index] += missing // units[index]
        missing %= units[index]
    widths[descending[-1]] += 2 * missing > units[descending[-1]]
    return widths


def _nearest(total: int, units: Sequence[int]) -> list[int]:
    """Return the widths whose total is nearest, by dynamic programming over the reachable totals.

    The search is short: proportional widths miss by more than 1 % only if the total is a few units.
    """
    step = gcd(*units)
    last_grown: dict[int, int] = {0: -1}  # reachable total -> index of the width that grew last
    for subtotal in range(0, total + min(units) + 1, step):
        for index, unit in enumerate(units):
            if subtotal - unit in last_grown:
                last_grown.setdefault(subtotal, index)
    best = min(last_grown, key=lambda subtotal: (abs(subtotal - total), subtotal))
    widths = [0] * len(units)
    while best:
        index = last_grown[best]
        widths[index] += 1
        best -= units[index]
    return widths


def _module(of: Mapping[str, object], channels: int) -> nn.Module:
    options = {key: value for key, value in of.items() if key != "name"}
    module: nn.Module = ATTENTIONS.build(str(of["name"]), channels, **options)
    return module


def _parameters(of: Mapping[str, object], channels: int) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in _module(of, channels).parameters())


def _macs(of: Mapping[str, object], channels: int, size: int) -> int:
    with torch.device("cpu"), torch.random.fork_rng(devices=[]):
        module = _module(of, channels)
    return int(measure_cost(module, image_size=size, channels=channels)["macs"])

"""A control: plain bottlenecks that cost as much as a named attention module."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import gcd
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ema_lab.cost.measure import measure_cost
from ema_lab.registry.catalogue import ATTENTIONS

TOLERANCE = 0.01


class Place(Protocol):
    """What matching needs to know of a site."""

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
    """Bottlenecks x + W2 relu(W1 x) whose cost over all insertions is another module's within 1 %.

    If attention is no better than these, its gain is that of more parameters. Each place gets a width
    in proportion to what the module adds there, down to 0; the widths are then adjusted so that the
    total fits. A total that whole widths cannot reach is an error that names the nearest.

    Parameters: 2 C width at each place.

    Args:
        of: The module to match: a name, or a mapping with `name` and its options.
        by: `parameters`, or `macs`: multiply-adds as `measure_cost` counts them.
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
        sites: Sequence[Place],
        *,
        of: Mapping[str, object],
        by: Literal["parameters", "macs"] = "parameters",
    ) -> list[Callable[[], nn.Module]]:
        """Return what builds the bottleneck of each site of a model.

        Raises:
            ValueError: If the module's total cannot be matched.
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
    """Return whole widths whose cost, width x unit over all places, is the targets' sum within 1 %.

    Args:
        targets: What the module to match costs at each place.
        units: What one unit of width costs at each place.
        by: The name of the cost, for the message.

    Raises:
        ValueError: If the nearest total is further away.
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
    """Return each place's share, rounded down, and then what is still missing, large units first."""
    widths = [target // unit for target, unit in zip(targets, units, strict=True)]
    missing = sum(targets) - _total(widths, units)
    places = sorted(range(len(units)), key=lambda place: -units[place])
    for place in places:
        widths[place] += missing // units[place]
        missing %= units[place]
    widths[places[-1]] += 2 * missing > units[places[-1]]
    return widths


def _nearest(total: int, units: Sequence[int]) -> list[int]:
    """Return the widths with the nearest total of all. Only small totals, in units, come here."""
    step = gcd(*units)
    choice: dict[int, int] = {0: -1}  # by reachable total: the place whose width grew last
    for reached in range(0, total + min(units) + 1, step):
        for place, unit in enumerate(units):
            if reached - unit in choice:
                choice.setdefault(reached, place)
    best = min(choice, key=lambda reached: (abs(reached - total), reached))
    widths = [0] * len(units)
    while best:
        place = choice[best]
        widths[place] += 1
        best -= units[place]
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

"""Checks that several modules share. Each raises a ValueError that states the rule, then the values."""

from collections.abc import Sequence

from torch import Tensor, nn


def hidden_channels(owner: str, channels: int, reduction: int) -> int:
    """Return channels // reduction, the width of a bottleneck."""
    if not 1 <= reduction <= channels:
        raise ValueError(f"{owner} needs 1 <= reduction <= channels, got {channels=}, {reduction=}.")
    return channels // reduction


def check_odd(owner: str, kernel_size: int) -> None:
    """Refuse a kernel that has no middle: its output would be larger than its input."""
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(f"{owner} needs an odd, positive kernel_size, got {kernel_size=}.")


def check_choice(owner: str, option: str, value: str, choices: Sequence[str]) -> None:
    """Refuse a setting that is not one of `choices`."""
    if value not in choices:
        raise ValueError(f"{owner} needs {option} to be one of {', '.join(choices)}, got {option}={value!r}.")


def normalise(norm: nn.Module, x: Tensor) -> Tensor:
    """Apply a normalisation layer, refusing statistics over a single value.

    In training, batch normalisation needs two values per channel; group normalisation refuses a lone
    value (one image, one group, one pixel) in both modes.
    """
    if isinstance(norm, nn.GroupNorm):
        if x.numel() == norm.num_groups:
            raise ValueError(f"GroupNorm needs more than one value per group, got {tuple(x.shape)}.")
    elif norm.training and x.numel() == x.shape[1]:
        raise ValueError(
            f"{type(norm).__name__} needs more than one value per channel in training, got {tuple(x.shape)}."
        )
    normalised: Tensor = norm(x)
    return normalised

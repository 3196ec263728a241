"""Argument checks shared by attention modules. Each ValueError states the rule, then the values."""

from collections.abc import Sequence

from torch import Tensor, nn


def hidden_channels(owner: str, channels: int, reduction: int) -> int:
    """Return channels // reduction, the width of a bottleneck.

    Raises:
        ValueError: If the bottleneck has no channel, or `reduction` is below 1.
    """
    if not 1 <= reduction <= channels:
        raise ValueError(f"{owner} needs 1 <= reduction <= channels, got {channels=}, {reduction=}.")
    return channels // reduction


def check_odd(owner: str, kernel_size: int) -> None:
    """Require an odd kernel, because padding with kernel_size // 2 keeps the size of odd kernels only."""
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(f"{owner} needs an odd, positive kernel_size, got {kernel_size=}.")


def check_choice(owner: str, option: str, value: str, choices: Sequence[str]) -> None:
    """Require `value` to be one of `choices`."""
    if value not in choices:
        raise ValueError(f"{owner} needs {option} to be one of {', '.join(choices)}, got {option}={value!r}.")


def normalise(norm: nn.Module, x: Tensor) -> Tensor:
    """Apply a normalisation layer, but reject statistics over a single value.

    Batch normalisation needs two values per channel in training. Group normalisation rejects a single
    value per group (one image, one channel, one pixel) in both modes.

    Raises:
        ValueError: If the statistics would be over a single value.
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

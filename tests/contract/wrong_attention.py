"""Attention modules that each break one rule of the contract, named by the rule."""

import random

import numpy as np
import torch
from torch import Tensor, nn


class Good(nn.Module):
    """Keeps every rule.

    Args:
        channels: Channels of the input.
        scale: What the gate is multiplied by.
    """

    def __init__(self, channels: int, *, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        self.mix = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x * (self.scale * self.mix(x.mean((2, 3))).sigmoid())[:, :, None, None]


class Plain(nn.Module):
    """Without options."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = nn.Linear(channels, channels)

    def gate(self, x: Tensor) -> Tensor:
        return self.mix(x.mean((2, 3))).sigmoid()[:, :, None, None]

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)


class Unruled(nn.Module):
    """Uses an operator whose cost no rule tells."""

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.special.i0e(x)


class CannotBeBuilt(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = {}["absent"]


class NoModule:
    def __init__(self, channels: int) -> None:
        pass


class ChangesShape(Plain):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.gate(x)


class RefusesSmall(Plain):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)

    def forward(self, x: Tensor) -> Tensor:
        if x.numel() == x.shape[1]:
            raise ValueError("too small")
        return super().forward(x)


class UsesTheBatch(Plain):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x - x.mean(0, keepdim=True))


class UnusedParameter(Plain):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.unused = nn.Parameter(torch.ones(channels))


class ZeroGradient(Plain):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.shift = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 0 * self.shift.reshape(-1, 1, 1)


class ChangesItsInput(Plain):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)

    def forward(self, x: Tensor) -> Tensor:
        return x.mul_(self.gate(x))


class DrawsInEvaluation(Plain):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 0 * torch.rand(1)


class DrawsFromPython(Plain):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * (random.random() if self.training else 1.0)


class DrawsFromNumpy(Plain):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * (np.random.rand() if self.training else 1.0)  # noqa: NPY002


class DropsOut(Plain):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(super().forward(x), 0.5, self.training)


class CountsItsCalls(Plain):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(x) / self.calls


class LearnsInEvaluation(Plain):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.seen += 1
        return super().forward(x)


class StartsAnywhere(Plain):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.mix.bias.data.fill_(random.random())


class CannotBeCopied(Plain):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)

    def __deepcopy__(self, memo: object) -> "CannotBeCopied":
        raise TypeError("one of its kind")


class HasALambda(Plain):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.activation = lambda x: x.relu()

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(super().forward(x))


class HidesState(Plain):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.mean = 0.0

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.mean = float(x.abs().mean())
        return super().forward(x) + self.mean


class SinglePrecision(Plain):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).float()


class MixesTypes(Plain):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.register_buffer("weight", torch.eye(channels))

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            return torch.einsum("bchw,dc->bdhw", super().forward(x), self.weight)


class ReturnsHalf(Plain):
    def forward(self, x: Tensor) -> Tensor:
        out = super().forward(x)
        return out.half() if torch.is_autocast_enabled("cpu") else out


class EndsInAConvolution(Plain):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.last = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(super().forward(x))


class DiffersWhenCompiled(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return x if torch.compiler.is_compiling() else super().forward(x)


class TakesMore(Plain):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)

    def __new__(cls, channels: int, *, more: int) -> "TakesMore":
        return super().__new__(cls)


class NeedsContiguous(Plain):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.view(len(x), -1).view(x.shape))


class DependsOnValues(Plain):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if x.sum() > 0 else super().forward(x + 0)


class FixedDevice(Plain):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.register_buffer("table", torch.zeros(channels, 1, 1, device="cpu"))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + (self.table if not x.is_meta else 0)


class ForksATrace(Plain):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)

    def forward(self, x: Tensor) -> Tensor:
        if torch.jit.is_tracing():
            raise RuntimeError("cannot be traced")
        return super().forward(x)


class Unexplained(Plain):
    def __init__(self, channels: int, *, scale: float = 1.0) -> None:
        super().__init__(channels)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * super().forward(x)


class Untyped(Unexplained):
    """Says what its option means.

    Args:
        scale: What the output is multiplied by.
    """

    def __init__(self, channels: int, *, scale=1.0) -> None:
        super().__init__(channels, scale=scale)


class IgnoresAnOption(Plain):
    def __init__(self, channels: int, *, bias: bool = True) -> None:
        super().__init__(channels)


class IgnoresANumber(Plain):
    def __init__(self, channels: int, *, groups: int = 8) -> None:
        super().__init__(channels)


class RefusesOtherValues(Plain):
    def __init__(self, channels: int, *, groups: int = 1) -> None:
        super().__init__(channels)
        if groups != 1:
            raise ValueError(f"needs groups=1, got {groups=}")


class FailsAtOtherValues(Plain):
    def __init__(self, channels: int, *, groups: int = 1) -> None:
        super().__init__(channels)
        self.name = {1: "one"}[groups]


class TakesAWord(Plain):
    def __init__(self, channels: int, *, mode: str = "a") -> None:
        super().__init__(channels)


class AddsTooFew(nn.Module):
    """Adds channels that do not broadcast."""

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x + x[:, :3]

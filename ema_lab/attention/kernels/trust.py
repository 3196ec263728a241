"""Use of a kernel for the CPU: within its reach, and after it agreed with the module's formula once."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from ema_lab.attention.kernels.agreement import (
    disagreement,
    is_watched,
    noise,
    output_and_gradients,
    randomised,
)
from ema_lab.attention.kernels.choice import kernel_on, note


class WithFormula(nn.Module):
    """Base class of modules with a kernel, which replaces their formula. Such a module imports its kernel."""

    def formula(self, x: Tensor) -> Tensor:
        """Apply the formula, operator by operator."""
        raise NotImplementedError


Module = TypeVar("Module", bound=WithFormula)


class Case(NamedTuple):
    """Key of a comparison with the formula: all that selects a kernel's code."""

    dtype: torch.dtype
    height: int
    width: int
    kernel_size: int  # of the spatial convolutions; 1 without any


@dataclass
class Kernel(Generic[Module]):
    """Kernel of a module for contiguous maps on a CPU.

    Attributes:
        owner: Name of the module, for warnings.
        exact: The kernel.
        trusted: The cases that were compared, and whether the kernel agreed.
    """

    owner: str
    exact: Callable[[Module, Tensor], Tensor]
    trusted: dict[Case, bool] = field(default_factory=dict)

    def apply(
        self,
        module: Module,
        x: Tensor,
        kernel_size: int | None,
        build: Callable[[int], Module],
    ) -> Tensor:
        """Apply a module with the chosen kernel; calls out of the kernel's reach use the formula.

        Args:
            module: The module.
            x: Its input.
            kernel_size: Of its spatial convolutions, 1 without any; None puts the module out of reach.
            build: Builds, for a kernel size, a module of four channels, with which the kernel is compared
                before its first use.
        """
        if torch.compiler.is_compiling() or torch._C._is_tracing():  # both see the operators of the formula
            return module.formula(x)
        if kernel_on(x.device.type) == "exact" and kernel_size is not None and _takes(module, x):
            case = Case(x.dtype, x.shape[2], x.shape[3], kernel_size)
            if self._is_trusted(case, build):
                note("exact")
                return self.exact(module, x)
        if x.device.type != "meta":
            note("formula")
        return module.formula(x)

    def _is_trusted(self, case: Case, build: Callable[[int], Module]) -> bool:
        if case not in self.trusted:
            problem = self._problem(case, build)
            self.trusted[case] = problem is None
            if problem is not None:
                maps = f"maps {case.height} x {case.width} of {case.dtype}"
                text = f"attention kernel exact of {self.owner}, {maps}: {problem}; the formula is used"
                warnings.warn(text, RuntimeWarning, stacklevel=4)
        return self.trusted[case]

    def _problem(self, case: Case, build: Callable[[int], Module]) -> str | None:
        """Compare output and gradients with the formula on random input; None if they agree."""
        with torch.inference_mode(mode=False), torch.enable_grad():
            with torch.device("meta"):
                module = build(case.kernel_size)
            module = randomised(module).eval()
            for part in module.modules():
                if isinstance(part, nn.BatchNorm2d):
                    part.reset_running_stats()
            shape = (2, 4, case.height, case.width)
            x, grad = (noise(shape, seed).to(case.dtype) for seed in (1, 2))
            expected = output_and_gradients(module, module.formula, x.double(), grad.double())
            rounded = module.to(case.dtype)
            return disagreement(expected, rounded, lambda x: self.exact(rounded, x), x, grad)


def _takes(module: nn.Module, x: Tensor) -> bool:
    """Whether a kernel can stand in for this call."""
    return (
        x.device.type == "cpu"
        and x.dim() == 4
        and x.numel() > 0
        and x.is_contiguous()
        and x.dtype in {torch.float32, torch.float64}
        and all(parameter.dtype == x.dtype for parameter in module.parameters())
        and not torch.is_autocast_enabled("cpu")
        and not is_watched()
    )

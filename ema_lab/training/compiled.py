"""Compilation of a run's model by torch.compile, for whole training batches.

Before training, the compiled model is compared with the eager one on the first batch. Evaluation is always
eager, and so are batches of another size, such as the last of an epoch.
"""

import copy
import math
import os
import shutil
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ema_lab.errors import CompileError, error_summary
from ema_lab.specs.recipe import RecipeSpec
from ema_lab.specs.run import RunSpec
from ema_lab.specs.strict import canonical_json
from ema_lab.tasks.task import Batch, BatchLoss, Task

CACHE_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"
LIMIT = 0.01  # distance between compiled and eager model, relative to the eager model's values
MOST_ROUNDING = 0.1  # distance of eager fp32 from float64 that rounding may explain


@contextmanager
def compiler_cache(recipe: RecipeSpec, folder: Path | None) -> Iterator[None]:
    """Keep compiled code in a folder that workers share.

    The environment variable may be the user's or torch's own, which sets it at import, so it has no say.
    """
    if recipe.compile == "off" or folder is None:
        yield
        return
    before = os.environ.get(CACHE_VARIABLE)
    os.environ[CACHE_VARIABLE] = str(folder.absolute())
    try:
        yield
    finally:
        if before is None:
            del os.environ[CACHE_VARIABLE]
        else:
            os.environ[CACHE_VARIABLE] = before


def check_compiler(device: torch.device) -> None:
    """Check that torch.compile finds what it needs for a device.

    Raises:
        CompileError: If it does not.
    """
    compiler = os.environ.get("CXX", "g++")
    if device.type == "cpu" and shutil.which(compiler) is None:
        raise CompileError(
            f"recipe.compile needs a C++ compiler, and {compiler} is not installed here: install it, "
            "name another in the environment variable CXX, or set compile: off"
        )
    if device.type == "cuda" and find_spec("triton") is None:
        raise CompileError("recipe.compile needs Triton on CUDA: install it, or set compile: off")


@dataclass(frozen=True)
class _Pass:
    """Forward and backward pass of a batch: loss, gradients by parameter, buffers after it."""

    loss: Tensor
    gradients: Mapping[str, Tensor | None]
    buffers: Mapping[str, Tensor]


@dataclass
class _Reuse:
    """The variant whose code this process keeps for its other seeds, and the number of its graphs."""

    variant: str = ""
    graphs: int = 0


_REUSE = _Reuse()


class CompiledModel:
    """Compiled form of a model on its device, by the recipe's `compile`.

    A process compiles a variant once for all its seeds. Before another variant, torch forgets all compiled
    code: code of one variant can never be used for another.

    Attributes:
        seconds: Time that compilation and the comparison on the first batch took.
        graphs: Number of graphs that torch compiled the forward pass to.
    """

    def __init__(self, spec: RunSpec, model: nn.Module, task: Task) -> None:
        self.seconds = 0.0
        self.graphs = 0
        self._variant = canonical_json({**spec.resolved(), "seed": 0})
        self._recipe = spec.recipe
        self._model = model
        self._task = task
        self._compiled: Any = None
        self._images = 0

    def facts(self) -> dict[str, Any]:
        """Return the facts about the compilation for the record."""
        return {"mode": self._recipe.compile, "seconds": self.seconds, "graphs": self.graphs}

    def for_batch(self, batch: Batch, seed: Any) -> nn.Module:
        """Return the model for a training batch: compiled for batches as large as the first, else eager.

        Args:
            batch: The batch, in the precision context of the loss.
            seed: Seeds torch's generators for the batch; called before each pass.

        Raises:
            CompileError: If the first batch shows that the compiled model differs, or it cannot be compiled.
        """
        images = len(batch[2])
        if self._compiled is None:
            began = time.perf_counter()
            self._images = images
            self._compile(batch, seed)
            self.seconds = time.perf_counter() - began
        if images != self._images:
            return self._model
        torch.compiler.cudagraph_mark_step_begin()
        compiled: nn.Module = self._compiled
        return compiled

    def _compile(self, batch: Batch, seed: Any) -> None:
        mode = self._recipe.compile
        # Otherwise code that was compiled without forward hooks is also used for a model that has some.
        torch._dynamo.config.skip_nnmodule_hook_guards = False
        if self._variant != _REUSE.variant:
            torch.compiler.reset()
            _REUSE.variant, _REUSE.graphs = self._variant, 0
        eager = self._passed(self._model, batch, seed)
        try:
            try:
                compiled, compiled_pass, new = self._compiled_pass(batch, seed)
            except Exception as error:  # torch's compilers raise anything
                if not (folder := os.environ.get(CACHE_VARIABLE)):
                    raise
                compiled, compiled_pass, new = self._compiled_apart(batch, seed, folder, error)
        except Exception as error:
            rule = f"recipe.compile: {mode}: the model cannot be compiled here ({error_summary(error)})"
            raise CompileError(f"{rule}; set compile: off") from error
        self.graphs = new or _REUSE.graphs
        if not self.graphs:
            rule = (
                f"recipe.compile: {mode} changes nothing: torch finds nothing to compile in this model's call"
            )
            raise CompileError(f"{rule}; set compile: off")
        if difference := self._fault(compiled_pass, eager, batch, seed):
            rule = f"recipe.compile: {mode}: the compiled model is wrong on the first batch: {difference}"
            raise CompileError(f"{rule}; set compile: off, and report it to PyTorch")
        if (
            new and _REUSE.graphs
        ):  # the code did not fit another seed, and torch keeps only a few versions of it
            _REUSE.variant = ""
        _REUSE.graphs = self.graphs
        seed()
        self._compiled = compiled

    def _compiled_pass(self, batch: Batch, seed: Any) -> tuple[Any, _Pass, int]:
        """Return the compiled model, its pass of a batch, and the number of graphs that are new."""
        stats = torch._dynamo.utils.counters["stats"]
        before = stats["unique_graphs"]
        compiled = torch.compile(self._model, dynamic=False, options=_options(self._recipe.compile))
        return compiled, self._passed(compiled, batch, seed), stats["unique_graphs"] - before

    def _compiled_apart(
        self, batch: Batch, seed: Any, folder: str, error: Exception
    ) -> tuple[Any, _Pass, int]:
        """Compile again after an error, in a temporary folder: the shared one may be damaged or read-only."""
        from torch._inductor.utils import fresh_inductor_cache  # its name in all versions since 2.4

        torch.compiler.reset()
        _REUSE.graphs = 0
        with fresh_inductor_cache():
            result = self._compiled_pass(batch, seed)
        text = f"compiled code in {folder} cannot be used ({error_summary(error)})"
        advice = "remove it while nothing trains; the model was compiled without it"
        warnings.warn(f"{text}: {advice}", RuntimeWarning, stacklevel=2)
        return result

    def _fault(self, compiled_pass: _Pass, eager: _Pass, batch: Batch, seed: Any) -> str | None:
        """Describe how a compiled pass differs from the eager one; None if rounding explains the difference.

        Gradients of a deep network amplify rounding: those of ResNet-50 at its initial weights are up to 5 %
        apart in fp32 and float64. So a suspect in fp32 is judged by a pass in float64.
        """
        if self._recipe.precision != "fp32":
            with torch.autocast(batch[0].device.type, enabled=False):
                return _difference(compiled_pass, eager, self._passed(self._model, batch, seed))
        difference = _difference(compiled_pass, eager, eager)
        exact = self._float64_pass(batch, seed) if difference else None
        if exact is None or max(_distances(eager, exact).values()) > MOST_ROUNDING:
            return difference
        return _difference(compiled_pass, eager, exact)

    def _float64_pass(self, batch: Batch, seed: Any) -> _Pass | None:
        """Return the eager pass of a float64 copy of the model; None if the model or the device has none."""
        try:
            model = copy.deepcopy(self._model).double()
            return self._passed(model, _as_float64(batch), seed, source=model)
        except Exception:  # anything that a user's model or loss raises in float64; the fp32 verdict stands
            return None

    def _passed(self, model: Any, batch: Batch, seed: Any, source: nn.Module | None = None) -> _Pass:
        """Run a batch forward and backward, then restore the model's state.

        `source`: the module that has the parameters and buffers; None takes the eager model.
        """
        source = source or self._model
        buffers = {name: value.clone() for name, value in source.named_buffers()}
        trained = {name: value for name, value in source.named_parameters() if value.requires_grad}
        seed()
        torch.clear_autocast_cache()  # its casts of weights belong to one backward pass
        try:
            result: BatchLoss = self._task.loss(model, batch, self._recipe)
            gradients = torch.autograd.grad(result.loss, list(trained.values()), allow_unused=True)
            after = {name: value.clone() for name, value in source.named_buffers()}
        finally:
            torch.clear_autocast_cache()
            with torch.no_grad():
                for name, value in source.named_buffers():
                    value.copy_(buffers[name])
        copies = (None if each is None else each.clone() for each in gradients)
        return _Pass(result.loss.detach().clone(), dict(zip(trained, copies, strict=True)), after)


def _options(mode: str) -> dict[str, Any]:
    """Return inductor's settings of a mode, with random numbers as in eager mode.

    Only `max-autotune` times kernels to choose among them. A repeated run otherwise gets the same ones.
    """
    modes = torch._inductor.list_mode_options()
    return {**modes.get(mode, {}), "fallback_random": True, "deterministic": mode != "max-autotune"}


def _difference(compiled_pass: _Pass, eager: _Pass, exact: _Pass) -> str | None:
    """Describe how a compiled pass differs from the eager one; None if rounding explains the difference.

    The distance of the compiled pass from the exact one may be twice that of the eager pass, plus `LIMIT`.

    Args:
        compiled_pass: The compiled pass.
        eager: The eager pass in the recipe's precision.
        exact: The eager pass in fp32, or in float64.
    """
    if not torch.isfinite(eager.loss):
        return None  # nothing to compare; training will find that it diverges
    apart, rounding = _distances(compiled_pass, exact), _distances(eager, exact)
    for name, value in eager.gradients.items():
        other = compiled_pass.gradients[name]
        if (value is None) != (other is None) or (value is not None and _is_lost(other, value)):
            return f"{name} has {'no' if value is not None else 'a'} gradient"
    for what, distance in apart.items():
        limit = LIMIT + 2 * rounding[what]
        if not distance <= limit:  # NaN differs too
            return (
                f"{what} {'is' if what == 'the loss' else 'are'} {distance:.2g} apart, more than {limit:.2g}"
            )
    return None


def _distances(one: _Pass, other: _Pass) -> dict[str, float]:
    return {
        "the loss": _distance([one.loss], [other.loss]),
        "gradients": _distance(*_pairs(one.gradients, other.gradients)),
        "buffers": _distance(*_pairs(one.buffers, other.buffers)),
    }


def _as_float64(batch: Batch) -> Batch:
    """Return a batch with its floating-point tensors in float64."""
    images, targets, indices = (
        each.double() if isinstance(each, Tensor) and each.is_floating_point() else each for each in batch
    )
    return images, targets, indices


def _is_lost(compiled_pass: Tensor | None, eager: Tensor) -> bool:
    return compiled_pass is not None and bool(eager.any()) and not bool(compiled_pass.any())


def _pairs(
    compiled_pass: Mapping[str, Tensor | None], eager: Mapping[str, Tensor | None]
) -> tuple[list[Tensor], list[Tensor]]:
    both = [(compiled_pass[name], value) for name, value in eager.items()]
    kept = [(one, other) for one, other in both if one is not None and other is not None]
    return [one for one, _ in kept], [other for _, other in kept]


def _distance(compiled_pass: list[Tensor], eager: list[Tensor]) -> float:
    """Return the length of the difference of two lists of tensors, relative to that of the second."""

    def length(values: list[Tensor]) -> float:
        return math.sqrt(sum(value.double().square().sum().item() for value in values))

    apart = length([one.double() - other.double() for one, other in zip(compiled_pass, eager, strict=True)])
    return apart / size if (size := length(eager)) else apart

"""Trial pass through a model or module: detects what cannot run before the first epoch starts."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ema_lab.errors import SpecError, error_summary
from ema_lab.models.shapes import ShapesOnly

UNKNOWN = object()  # the output of a module that runs only on a GPU, where this machine has none


def output_of(
    subject: str, module: nn.Module, shape: Sequence[int], *, with_values: Callable[[], nn.Module]
) -> object:
    """Return a module's output for an input of a shape, computed on the meta device, or `UNKNOWN`.

    Code that needs values fails on the meta device. It is tried again on the CPU, with random values.

    Args:
        subject: The module and its place, for messages.
        module: The module on the meta device.
        shape: The shape of its input.
        with_values: Builds the module again, on the CPU.

    Raises:
        SpecError: If the module fails with values too. The message names the layer and the line of code.
    """
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad(), ShapesOnly():
            out: object = module(torch.empty(*shape, device="meta"))
    except Exception:  # a user's own code may raise anything
        out = _with_values(subject, with_values, shape, training=module.training)
    return out


def shape_of(output: object) -> tuple[int, ...] | str:
    """Return a tensor's shape, or the type name of an output that is not a tensor."""
    return tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__


def _with_values(
    subject: str, build: Callable[[], nn.Module], shape: Sequence[int], *, training: bool
) -> object:
    module: nn.Module | None = None
    try:
        with torch.random.fork_rng(devices=[]), torch.device("cpu"), torch.no_grad():
            torch.manual_seed(0)
            module = build().train(training)
            return module(torch.rand(*shape))
    except SpecError:
        raise
    except Exception as error:
        if _needs_a_gpu(error):  # the machine that trains may have one
            return UNKNOWN
        layer = layer_of(error, module) if module is not None else ""
        where = f" at {layer!r}" if layer else ""
        raise SpecError(
            f"{subject} fails{where} on an input of shape {tuple(shape)}: {error_summary(error)}"
        ) from None


def layer_of(error: BaseException, module: nn.Module) -> str:
    """Return the qualified name of the innermost submodule that raised an error, or ""."""
    names = {id(part): name for name, part in module.named_modules()}
    layer, frame = "", error.__traceback__
    while frame is not None:
        part = frame.tb_frame.f_locals.get("self")
        layer = names.get(id(part), layer) if isinstance(part, nn.Module) else layer
        frame = frame.tb_next
    return layer


def _needs_a_gpu(error: Exception) -> bool:
    message = str(error)
    return not torch.cuda.is_available() and any(word in message for word in ("CUDA", "NVIDIA"))

"""A trial pass through a model or a module, which finds what cannot run before the first epoch."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ema_lab.errors import SpecError, error_summary


def output_of(
    what: str, module: nn.Module, shape: Sequence[int], *, with_values: Callable[[], nn.Module]
) -> object:
    """Return what a module on the meta device puts out for an input of a shape.

    What fails there may only need values, so it is tried with some.

    Args:
        what: The module and its place, for messages.
        module: The module, without weights.
        shape: The shape of its input.
        with_values: Builds the module again, on the CPU.

    Raises:
        SpecError: If it fails with values too; with the layer and the line of the code that raised.
    """
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            out: object = module(torch.empty(*shape, device="meta"))
    except Exception:  # code of a user may raise anything
        out = _with_values(what, with_values, shape, training=module.training)
    return out


def shape_of(output: object) -> tuple[int, ...] | str:
    """Return the shape of a tensor, or the name of what a module returned in place of one."""
    return tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__


def _with_values(
    what: str, build: Callable[[], nn.Module], shape: Sequence[int], *, training: bool
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
        if _needs_a_gpu(error):  # there may be one where it is trained
            return torch.empty(*shape, device="meta")
        layer = layer_of(error, module) if module is not None else ""
        where = f" at {layer!r}" if layer else ""
        raise SpecError(
            f"{what} fails{where} on an input of shape {tuple(shape)}: {error_summary(error)}"
        ) from None


def layer_of(error: BaseException, module: nn.Module) -> str:
    """Return the qualified name of the innermost submodule in which an error was raised, or ""."""
    names = {id(part): name for name, part in module.named_modules()}
    found, frame = "", error.__traceback__
    while frame is not None:
        part = frame.tb_frame.f_locals.get("self")
        found = names.get(id(part), found) if isinstance(part, nn.Module) else found
        frame = frame.tb_next
    return found


def _needs_a_gpu(error: Exception) -> bool:
    words = str(error)
    return not torch.cuda.is_available() and any(word in words for word in ("CUDA", "NVIDIA"))

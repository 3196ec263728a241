"""Start weights from a file, by name and shape; frozen parameters, and learning rates by pattern.

A file is read as data: torch unpickles tensors and plain containers, and runs no code from it.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from ema_lab.errors import SpecError
from ema_lab.models.insertion import CHILD
from ema_lab.models.placement import glob_matches
from ema_lab.models.weights import fetched_weights
from ema_lab.specs.start import StartSpec, file_sha256

AVERAGE = "average.module."  # where this package's checkpoints have the average of the weights
_PLAIN_PREFIXES = ("model.", "module.", "_orig_mod.")  # that trainers put before the names of a model
_WRAPPERS = ("state_dict", "model", "model_state_dict", "ema")  # keys of checkpoints that hold a state dict


@dataclass(frozen=True)
class StartTensor:
    """Origin of one tensor of the model: taken from the file of start weights, or initialised.

    Attributes:
        name: Qualified name in the model.
        shape: In the model.
        in_file: Name that was looked up in the file; empty if the file's naming has none for the tensor.
        outcome: `taken` from the file, `absent` from it, of another `shape` there, or `new`: without a name
            there.
    """

    name: str
    shape: tuple[int, ...]
    in_file: str
    outcome: Literal["taken", "absent", "shape", "new"]


def start_weights(model: nn.Module, start: StartSpec, folders: Sequence[Path] = ()) -> list[StartTensor]:
    """Copy the tensors of a file into a model, by name and shape; return the origin of each model tensor.

    On the meta device nothing is copied, and the result is the same.

    Args:
        model: The model.
        start: The file.
        folders: Where to look for the file after the current folder.

    Raises:
        SpecError: If the file is not there, is another one, is no state dict, or no tensor fits.
    """
    path = _path(start, folders)
    device = next(model.parameters()).device
    theirs = _state(path, "meta" if device.type == "meta" else "cpu")
    own = model.state_dict()
    names = _names(model, start, theirs)
    table: list[StartTensor] = []
    with torch.no_grad():
        for name, tensor in own.items():
            in_file = names.get(name, "")
            other = theirs.get(in_file)
            shape = tuple(tensor.shape)
            if other is None:
                table.append(StartTensor(name, shape, in_file, "absent" if in_file else "new"))
            elif other.shape != tensor.shape:
                table.append(StartTensor(name, shape, in_file, "shape"))
            else:
                tensor.copy_(other)
                table.append(StartTensor(name, shape, in_file, "taken"))
    if not any(one.outcome == "taken" for one in table):
        first = f"the model has {next(iter(own))!r}, the file {next(iter(theirs), 'nothing')!r}"
        raise SpecError(f"start: no tensor of {path} fits by name and shape: {first}")
    return table


def start_summary(table: Iterable[StartTensor], start: StartSpec) -> dict[str, object]:
    """Return the numbers of tensors and values that a model took from a file."""
    rows = list(table)
    taken = [one for one in rows if one.outcome == "taken"]
    return {
        "sha256": start.sha256,
        "tensors_taken": len(taken),
        "tensors": len(rows),
        "values_taken": sum(torch.Size(one.shape).numel() for one in taken),
        "values": sum(torch.Size(one.shape).numel() for one in rows),
    }


def _path(start: StartSpec, folders: Sequence[Path]) -> Path:
    if start.weights is not None:
        path = fetched_weights(start.weights, start.sha256)
    else:
        places = [Path(start.file), *(folder / start.file for folder in folders)]
        existing = next((place for place in places if place.is_file()), None)
        if existing is None:
            looked = ", ".join(str(place) for place in places)
            raise SpecError(f"start: there is no file {start.file}; looked for {looked}")
        path = existing
    if not (digits := file_sha256(path)).startswith(start.sha256):
        raise SpecError(f"start: {path} has the SHA-256 {digits[:12]}..., not {start.sha256[:12]}...")
    return path


def _state(path: Path, device: str) -> dict[str, Tensor]:
    """Return the tensors of a file by name.

    Raises:
        SpecError: If it is not a file of plain tensors.
    """
    try:
        loaded: object = _loaded(path, device)
    except Exception as error:  # torch raises what its readers raise
        hint = "only state dicts are read; save one with torch.save(model.float().state_dict(), FILE)"
        kind = "holds more than tensors" if "nsupported" in str(error) else "cannot be read"
        raise SpecError(f"start: {path} {kind}: {hint}") from None
    while isinstance(loaded, Mapping) and (key := next((one for one in _WRAPPERS if one in loaded), None)):
        inner = loaded[key]
        if not isinstance(inner, Mapping):
            break
        loaded = inner
    tensors = (
        {str(name): value for name, value in loaded.items() if isinstance(value, Tensor)}
        if isinstance(loaded, Mapping)
        else {}
    )
    if not tensors:
        raise SpecError(f"start: {path} holds no tensors by name, but a {type(loaded).__name__}")
    if any(name.startswith(AVERAGE) for name in tensors):
        return {
            name.removeprefix(AVERAGE): value for name, value in tensors.items() if name.startswith(AVERAGE)
        }
    return tensors


def _loaded(path: Path, device: str) -> object:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        tensors = load_file(path)
        return {name: value.to(device) for name, value in tensors.items()}
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except NotImplementedError:  # files of torch before 1.6 have no meta tensors
        return torch.load(path, map_location="cpu", weights_only=True)


def _names(model: nn.Module, start: StartSpec, theirs: Mapping[str, Tensor]) -> dict[str, str]:
    """Return, for each model tensor that the file's naming knows, the name in the file."""
    if start.names == "own":
        own = model.state_dict()
        for prefix in ("", *_PLAIN_PREFIXES):
            named = {
                start.prefix + name.removeprefix(prefix): name for name in theirs if name.startswith(prefix)
            }
            if not own.keys().isdisjoint(named):
                break
        return {name: named.get(name, "" if _new(name) else name.removeprefix(start.prefix)) for name in own}
    published = getattr(model, "published_names", None)
    if published is None:
        raise SpecError(f"start: names: {start.names} is for YOLOv5's networks, not a {type(model).__name__}")
    names: dict[str, str] = published(shifted=start.names == "yolov5-index")
    return names


def _new(name: str) -> bool:
    return any(CHILD.fullmatch(part) for part in name.split("."))


def freeze(
    model: nn.Module, patterns: Sequence[str], norms: Literal["training", "evaluation"] = "training"
) -> list[str]:
    """Exclude parameters from training, and return their names.

    A pattern is a glob over qualified names of parameters, or of submodules with all their parameters.
    Attention inside such a submodule is still trained, unless a pattern names it.

    Args:
        model: The model.
        patterns: The patterns.
        norms: Mode of frozen norms while the model trains. In `training` their running statistics go on; in
            `evaluation` they normalise by these statistics, which stay as they are.

    Raises:
        SpecError: If a pattern matches no parameter, or none is left to train, or `evaluation` changes
            nothing because no frozen norm has running statistics.
    """
    parameters = dict(model.named_parameters())
    frozen: dict[str, None] = {}
    for pattern in patterns:
        frozen |= dict.fromkeys(_matches(model, pattern, "frozen"))
    for name in frozen:
        parameters[name].requires_grad_(False)
    if patterns and not any(value.requires_grad for value in parameters.values()):
        raise SpecError(f"frozen: {', '.join(patterns)} leaves no parameter to train")
    if norms == "evaluation":
        _fix_norms(model, patterns)
    return list(frozen)


def rate_factors(model: nn.Module, factors: Mapping[str, float]) -> dict[str, float]:
    """Return the factor of the learning rate of each parameter that a pattern names, as `freeze` reads them.

    Raises:
        SpecError: If a pattern matches no parameter that is trained, or two patterns match the same one.
    """
    trained = {name for name, value in model.named_parameters() if value.requires_grad}
    rules: dict[str, tuple[str, float]] = {}
    for pattern, factor in factors.items():
        names = [name for name in _matches(model, pattern, "lr_factors") if name in trained]
        if not names:
            raise SpecError(f"lr_factors: {pattern!r} changes nothing: all that it matches is frozen")
        if both := next((name for name in names if name in rules), None):
            rule = f"{rules[both][0]!r} and {pattern!r} both match {both}: make one of them narrower"
            raise SpecError(f"lr_factors: {rule}")
        rules |= dict.fromkeys(names, (pattern, factor))
    return {name: factor for name, (_, factor) in rules.items()}


def _matches(model: nn.Module, pattern: str, key: str) -> list[str]:
    """Return the parameters that a pattern names, by their own name or that of a submodule.

    Raises:
        SpecError: If there are none.
    """
    parameters = [name for name, _ in model.named_parameters()]
    matches = [name for name in parameters if any(glob_matches(pattern, one) for one in _ancestors(name))]
    if not matches:
        parts = list(dict.fromkeys(re.sub(r"\d+", "*", name.rpartition(".")[0]) for name in parameters))
        raise SpecError(f"{key}: {pattern!r} matches no parameter; there are {', '.join(parts[:12])}")
    return matches


def _fix_norms(model: nn.Module, patterns: Sequence[str]) -> None:
    """Keep the norms whose running statistics a pattern names in evaluation mode."""
    statistics = {name: _ancestors(f"{name}.running_mean") for name, _ in model.named_modules()}
    fixed = [
        module
        for name, module in model.named_modules()
        if isinstance(getattr(module, "running_mean", None), Tensor)
        and any(glob_matches(pattern, one) for pattern in patterns for one in statistics[name])
    ]
    if not fixed:
        rule = "changes nothing: no norm with running statistics is frozen"
        raise SpecError(f"frozen_norms: evaluation {rule} by {', '.join(patterns)}")
    for module in fixed:
        module.register_forward_pre_hook(_evaluate)


def _evaluate(module: nn.Module, _inputs: object) -> None:
    """Put a module into evaluation mode. As a forward pre-hook this overrides `model.train()`."""
    module.eval()


def _ancestors(name: str) -> list[str]:
    """Return the names that freeze a parameter: its own and those above, up to the attention it is in."""
    parts = name.split(".")
    inside = [number for number, part in enumerate(parts) if CHILD.fullmatch(part)]
    first = inside[-1] + 1 if inside else 1
    return [".".join(parts[:size]) for size in range(first, len(parts) + 1)]

"""Loader of state dicts with the key names of the module authors' code."""

from collections.abc import Mapping

from torch import Size, Tensor, nn

from ema_lab.errors import SpecError

_OPTIONAL = "num_batches_tracked"


def load_reference_state(module: nn.Module, state_dict: Mapping[str, Tensor]) -> None:
    """Load a state dict with the key names of the module authors' code.

    The class attribute `reference_keys` maps the authors' key prefixes to ours. A 1x1 convolution and a
    linear layer can replace each other. The batch counter of a batch normalisation may be missing,
    because old checkpoints lack the counter and no module uses it.

    Args:
        module: Attention module to load into.
        state_dict: State dict of the authors' module.

    Raises:
        SpecError: If the module has no `reference_keys`, or keys or shapes do not fit. The message lists
            all misfits, and the module stays unchanged.
    """
    table = getattr(module, "reference_keys", None)
    if table is None:
        raise SpecError(f"{type(module).__name__} has no reference_keys: the authors' key names are unknown")
    own = module.state_dict()
    names = {key: _renamed(key, table) for key in state_dict}
    renamed_state = {name: state_dict[key] for key, name in names.items() if name in own}
    reference_prefixes = {name: prefix for prefix, name in table.items()}
    absent = [name for name in own if name not in renamed_state and not name.endswith(_OPTIONAL)]
    problems = {
        "missing": [_renamed(name, reference_prefixes) or name for name in absent],
        "unexpected": [key for key, name in names.items() if name not in own],
        "of another shape": [
            f"{key} {tuple(state_dict[key].shape)} instead of {tuple(own[name].shape)}"
            for key, name in names.items()
            if name in own and _essential(state_dict[key].shape) != _essential(own[name].shape)
        ],
    }
    if misfits := [f"{kind}: {', '.join(keys)}" for kind, keys in problems.items() if keys]:
        raise SpecError(f"the state does not fit {type(module).__name__}; {'; '.join(misfits)}")
    module.load_state_dict(
        own | {name: value.reshape(own[name].shape) for name, value in renamed_state.items()}
    )


def _renamed(key: str, table: Mapping[str, str]) -> str | None:
    """Return `key` with its prefix replaced as in `table`, or None if no prefix matches."""
    for old, new in table.items():
        if key == old or key.startswith(f"{old}."):
            return new + key[len(old) :]
    return None


def _essential(shape: Size) -> tuple[int, ...]:
    """Return a shape without axes of length 1, which is equal for 1x1 convolutions and linear layers."""
    return tuple(length for length in shape if length != 1)

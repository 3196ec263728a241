"""State dicts with the authors' own key names, loaded into the modules here."""

from collections.abc import Mapping

from torch import Size, Tensor, nn

from ema_lab.errors import SpecError

_OPTIONAL = "num_batches_tracked"


def load_reference_state(module: nn.Module, state_dict: Mapping[str, Tensor]) -> None:
    """Load a state dict whose keys are those of the authors' own code.

    The module's class says in `reference_keys` which prefix of theirs is which of ours. A 1x1
    convolution and a linear map stand for each other. A batch normalisation's count of batches,
    which old checkpoints lack and nothing here uses, may be missing.

    Raises:
        SpecError: If the module has no such table, or keys or shapes do not fit; all that do not are
            listed, and the module is left as it was.
    """
    table = getattr(module, "reference_keys", None)
    if table is None:
        raise SpecError(
            f"{type(module).__name__} has no reference_keys: no key names of its authors are known"
        )
    own = module.state_dict()
    names = {key: _renamed(key, table) for key in state_dict}
    given = {name: state_dict[key] for key, name in names.items() if name in own}
    back = {name: prefix for prefix, name in table.items()}
    absent = [name for name in own if name not in given and not name.endswith(_OPTIONAL)]
    problems = {
        "missing": [_renamed(name, back) or name for name in absent],
        "unexpected": [key for key, name in names.items() if name not in own],
        "of another shape": [
            f"{key} {tuple(state_dict[key].shape)} instead of {tuple(own[name].shape)}"
            for key, name in names.items()
            if name in own and _essential(state_dict[key].shape) != _essential(own[name].shape)
        ],
    }
    if found := [f"{kind}: {', '.join(keys)}" for kind, keys in problems.items() if keys]:
        raise SpecError(f"the state does not fit {type(module).__name__}; {'; '.join(found)}")
    module.load_state_dict(own | {name: value.reshape(own[name].shape) for name, value in given.items()})


def _renamed(key: str, table: Mapping[str, str]) -> str | None:
    """Return `key` with its prefix replaced as in `table`, or None where no prefix fits."""
    for old, new in table.items():
        if key == old or key.startswith(f"{old}."):
            return new + key[len(old) :]
    return None


def _essential(shape: Size) -> tuple[int, ...]:
    """Return a shape without its axes of length 1, in which 1x1 convolutions and linear maps agree."""
    return tuple(length for length in shape if length != 1)

"""Counter-based random numbers keyed by (seed, purpose, epoch, index, ...), without generator state.

Every value is an integer hash of its key, bit-equal on every device and in every process.
No part of a run can therefore shift the random numbers of another part, and resuming saves no state.
The mixing function is the finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
"""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_MIX = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))


def hash_counters(*parts: int | str) -> int:
    """Return a 64-bit hash of all parts, which depends on their order."""
    state = _GOLDEN
    for part in parts:
        if isinstance(part, str):
            part = int.from_bytes(hashlib.sha256(part.encode()).digest()[:8], "little")
        state = _mix(((state ^ _mix((part + _GOLDEN) & _MASK)) + _GOLDEN) & _MASK)
    return state


def hash_indices(key: int | Tensor, indices: Tensor) -> Tensor:
    """Return `hash_counters(*parts, index)` of each int64 index, as int64 of the same shape.

    Args:
        key: `hash_counters(*parts)`, or the result of an earlier `hash_indices` call.
        indices: int64 tensor of any shape that broadcasts with `key`.
    """
    before = key if isinstance(key, Tensor) else _signed(key)
    return _mix_tensor((_mix_tensor(indices + _signed(_GOLDEN)) ^ before) + _signed(_GOLDEN))


def hash_keys(keys: Sequence[int]) -> Tensor:
    """Return several keys as one tensor, int64 (N,): a key of `hash_indices`."""
    return torch.tensor([_signed(key) for key in keys])


def integers_below(bits: Tensor, limit: int) -> Tensor:
    """Map 64 random bits to uniform integers in [0, limit). Needs limit < 2^31."""
    return (((bits >> 33) & 0x7FFFFFFF) * limit) >> 31


def bernoulli(probability: float, bits: Tensor) -> Tensor:
    """Map 64 random bits to booleans that are true with the given probability."""
    return ((bits >> 33) & 0x7FFFFFFF) < round(probability * (1 << 31))


def uniforms(bits: Tensor) -> Tensor:
    """Map 64 random bits to uniform float64 multiples of 2^-32 in [0, 1)."""
    return ((bits >> 32) & 0xFFFFFFFF).double() * 2.0**-32


def permutation(count: int, *parts: int | str, device: torch.device | None = None) -> Tensor:
    """Return a random permutation of `range(count)` as int64, keyed by `parts`; by default on the CPU."""
    indices = torch.arange(count, device=device)
    return torch.argsort(hash_indices(hash_counters(*parts), indices), stable=True)


def _mix(value: int) -> int:
    for shift, factor in _MIX:
        value = ((value ^ (value >> shift)) * factor) & _MASK
    return value ^ (value >> 31)


def _mix_tensor(value: Tensor) -> Tensor:
    for shift, factor in _MIX:
        value = (value ^ _shift_right(value, shift)) * _signed(factor)
    return value ^ _shift_right(value, 31)


def _shift_right(value: Tensor, shift: int) -> Tensor:
    """Shift int64 as unsigned, because torch's own shift copies the sign bit."""
    return (value >> shift) & ((1 << (64 - shift)) - 1)


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value

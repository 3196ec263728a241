"""Memory for batches and pictures, so that little time is spent on the kernel's first touch of each page.

The first touch of fresh memory costs more than the arithmetic of a batch: 0.23 of 0.28 ms for an image of
224 x 224 in float32, measured on an AMD EPYC. NumPy asks the kernel for huge pages, torch does not. Memory
that nothing refers to any more is used again.
"""

import ctypes
import math
import os
import weakref
from collections import deque
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

HUGE_PAGE = 2**21  # bytes
MOST_LOADERS = 8
PREFETCHED = 2  # batches that each loader process makes in advance: torch's default
IN_USE = 2  # batches that the training holds
CACHED_VALUES = 2**17  # float32 values that stay in a processor's cache of 1 MiB
ELEMENTS = {torch.uint8: 1, torch.float32: 4}  # size of each in bytes
Memory = npt.NDArray[np.uint8]


class ReusedMemory:
    """Memory that is handed out again as soon as the last array or tensor on it is gone.

    Safe from any thread: each step is a single operation of a deque.
    """

    def __init__(self, most: int) -> None:
        """Keep at most `most` unused pieces of memory."""
        self._unused: deque[Memory] = deque(maxlen=most)

    def take(self, size: int) -> Memory:
        """Return `size` bytes with any content, which belong to the caller."""
        memory = self._large_enough(size)
        # All arrays and tensors on the memory keep this object alive. NumPy lets a view refer to the array
        # that has the memory, and not to the view that it was made of, so that no view could stand for them.
        users = (ctypes.c_ubyte * len(memory)).from_buffer(memory.data)
        weakref.finalize(users, self._unused.append, memory).atexit = False
        return np.frombuffer(memoryview(users).cast("B"), dtype=np.uint8, count=size)

    def _large_enough(self, size: int) -> Memory:
        for _ in range(len(self._unused)):
            try:
                memory = self._unused.popleft()
            except IndexError:  # another thread has taken it
                break
            if len(memory) >= size:
                return memory
            self._unused.append(memory)
        return np.empty(size, dtype=np.uint8)


_batches = ReusedMemory(most=2)


def empty(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Return a tensor on the CPU with any content; in a loader worker, in memory that processes share.

    A loader worker copies every batch into shared memory that is not there from the beginning.

    Args:
        shape: Shape of the tensor.
        dtype: uint8 or float32.
    """
    size = math.prod(shape) * ELEMENTS[dtype]
    if get_worker_info() is not None:
        shared = torch.UntypedStorage._new_shared(size)
        values: Tensor = torch.empty(0, dtype=dtype).set_(shared, 0, tuple(shape))  # type: ignore[call-overload]
        return values
    if size < HUGE_PAGE:
        return torch.empty(tuple(shape), dtype=dtype)
    memory = _batches.take(size + 2 * HUGE_PAGE)  # memory that is not touched costs nothing
    start = -memory.ctypes.data % HUGE_PAGE
    return torch.from_numpy(memory[start : start + size]).view(dtype).reshape(tuple(shape))


def most_loaders(batch_bytes: int, folder: str = "/dev/shm") -> int:
    """Return how many loader processes have room for their batches in half of the free shared memory.

    A container has often 64 MiB of it, and a process that finds none is killed.

    Args:
        batch_bytes: Size of the largest batch.
        folder: Where the system keeps shared memory; a system without the folder has it elsewhere.
    """
    try:
        status = os.statvfs(folder)
    except OSError:
        return MOST_LOADERS
    batches = status.f_bavail * status.f_frsize // 2 // max(1, batch_bytes)
    return max(0, min(MOST_LOADERS, (batches - IN_USE) // PREFETCHED))


def standardised(images_BCHW: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """Return (images - mean) / deviation as float32 on the CPU, in parts that fit a processor's cache."""
    values = empty(images_BCHW.shape, torch.float32)
    number = max(1, CACHED_VALUES * len(values) // max(1, values.numel()))
    for part, images in zip(values.split(number), images_BCHW.split(number), strict=True):
        part.copy_(images).sub_(mean).div_(deviation)  # twice as fast as `images - mean`
    return values

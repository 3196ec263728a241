"""Batches are filled in memory of their own, with the pixels of the plain formulas."""

import io
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ema_lab.data.augmentation import LARGE_BYTES, RandomCrop, augmented, random_crops
from ema_lab.data.batches import Images
from ema_lab.data.encoded import EncodedImages
from ema_lab.data.jpeg import Pixels, decode_jpeg
from ema_lab.data.memory import (
    CACHED_VALUES,
    HUGE_PAGE,
    MOST_LOADERS,
    ReusedMemory,
    empty,
    most_loaders,
    standardised,
)
from ema_lab.specs.augment import AugmentSpec

FLIP = AugmentSpec(flip=True)


def noise(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


@dataclass(frozen=True)
class Pictures(EncodedImages):
    """Images whose files are arrays in memory."""

    arrays: Sequence[np.ndarray]
    labels: Tensor
    image_size: int
    channels: int

    def pixels(self, index: int) -> np.ndarray:
        return self.arrays[index]

    def name(self, index: int) -> str:
        return str(index)


@dataclass(frozen=True)
class Views:
    """A data set of one's own that gives views of its memory."""

    images: Tensor
    labels: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.images.shape)

    def whole(self, indices_B: Tensor) -> Tensor:
        return self.images[: len(indices_B)]

    def cropped(self, indices_B: Tensor, crops: Sequence[RandomCrop]) -> Tensor:
        return self.images[: len(indices_B)]

    def content(self) -> Iterator[bytes]:
        yield b""


class SharedMemory(Dataset[bool]):
    def __getitem__(self, index: int) -> bool:
        return empty((index + 1, 3), torch.uint8).is_shared()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (2, 3, 4, 5), (9, HUGE_PAGE // 4)])
def test_empty_memory_has_shape_and_type_and_belongs_to_one_tensor(shape, dtype):
    first, second = empty(shape, dtype).fill_(3), empty(shape, dtype).fill_(5)
    assert (first.shape, first.dtype, first.is_contiguous()) == (shape, dtype, True)
    assert (first == 3).all()
    assert (second == 5).all()


USERS: list[Callable[[Pixels], Pixels]] = [  # what may be all that is left of a piece of memory
    lambda memory: memory,
    lambda memory: memory[1:][:-1],
    lambda memory: torch.from_numpy(memory).view(-1, 1)[2:].squeeze(1).numpy(),
    lambda memory: np.asarray(memoryview(memory)[3:]),
]


@given(
    st.lists(
        st.tuples(st.integers(16, 99), st.sampled_from(USERS), st.none() | st.integers(0, 9)), max_size=30
    )
)
def test_memory_is_never_handed_out_again_while_anything_uses_it(steps):
    memory = ReusedMemory(most=2)
    used: list[Pixels] = []
    for number, (size, user, dropped) in enumerate(steps):
        used.append(user(memory.take(size)))
        used[-1][:] = number
        if dropped is not None:
            del used[dropped % len(used) :]
        for values in used:
            assert len(set(values.tolist())) == 1
        assert len({values[0] for values in used}) == len(used)


def test_memory_that_nothing_uses_is_handed_out_again():
    memory = ReusedMemory(most=1)
    first = memory.take(1000)
    address = first.ctypes.data
    assert memory.take(1000).ctypes.data != address
    del first
    smaller = memory.take(900)
    assert smaller.ctypes.data == address
    assert len(smaller) == 900


def test_no_more_unused_memory_is_kept_than_said():
    size = 2**20
    tracemalloc.start()
    try:
        memory = ReusedMemory(most=2)
        pieces = [memory.take(size) for _ in range(4)]
        assert 4 <= tracemalloc.get_traced_memory()[0] / size < 5
        del pieces
        assert 2 <= tracemalloc.get_traced_memory()[0] / size < 3
    finally:
        tracemalloc.stop()


def test_pixels_of_a_picture_outlive_the_next_picture():
    def photograph(value: int) -> bytes:
        file = io.BytesIO()
        Image.new("RGB", (40, 30), (value,) * 3).save(file, "JPEG", quality=95)
        return file.getvalue()

    crops = []
    for value in (10, 200, 90):
        pixels = decode_jpeg(photograph(value))
        assert pixels is not None
        crops.append(pixels[5:9, 5:9])
        del pixels
    assert [int(np.median(crop)) for crop in crops] == [10, 200, 90]


def test_memory_of_a_batch_is_shared_from_the_beginning_in_loader_workers_alone():
    assert list(DataLoader(SharedMemory(), sampler=range(2), collate_fn=all)) == [False, False]
    in_worker = DataLoader(SharedMemory(), sampler=range(2), collate_fn=all, num_workers=1)
    assert list(in_worker) == [True, True]


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("shape", [(0, 3, 8, 8), (5, 1, 8, 8), (7, 3, 9, 4), (3, 3, 150, 400)])
def test_standardised_images_are_those_of_the_formula_bit_by_bit(shape, channels_last):
    images, mean, deviation = (
        noise(*shape),
        torch.rand(1, shape[1], 1, 1) * 255,
        torch.rand(1, shape[1], 1, 1),
    )
    if channels_last:
        images = images.to(memory_format=torch.channels_last)
    values = standardised(images, mean, deviation)
    assert torch.equal(values, (images.float() - mean) / deviation)
    assert values.is_contiguous()
    assert CACHED_VALUES < 3 * 150 * 400  # so that the last shape takes several parts


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(1, 90), st.integers(1, 90)), min_size=1, max_size=4),
    st.sampled_from([1, 3]),
    st.integers(1, 40),
    st.integers(0, 99),
)
def test_crops_are_those_of_pillow(sizes, channels, image_size, seed):
    arrays = [noise(*size, channels).numpy() for size in sizes]
    source = Pictures(arrays, torch.zeros(len(sizes)).long(), image_size, channels)
    indices = torch.arange(len(sizes))
    crops = random_crops(indices, (0.1, 1.0), seed, 0)
    for image, array, crop in zip(source.cropped(indices, crops), arrays, crops, strict=True):
        top, left, height, width = crop.box(*array.shape[:2])
        picture = Image.fromarray(array[:, :, 0] if channels == 1 else array)
        part = picture.crop((left, top, left + width, top + height))
        expected = np.asarray(part.resize((image_size, image_size), Image.Resampling.BILINEAR))
        assert np.array_equal(
            image.permute(1, 2, 0).numpy(), expected.reshape(image_size, image_size, channels)
        )


@pytest.mark.parametrize("size", [8, 200])
@pytest.mark.parametrize("in_place", [False, True])
def test_small_and_large_images_are_mirrored_alike_and_changed_on_request_alone(size, in_place):
    assert 3 * 8**2 < LARGE_BYTES <= 3 * 200**2
    images = noise(6, 3, size, size)
    before = images.clone()
    mirrored = augmented(images, torch.arange(6), FLIP, seed=0, epoch=0, in_place=in_place)
    flipped = [not torch.equal(image, old) for image, old in zip(mirrored, before, strict=True)]
    assert 0 < sum(flipped) < 6
    for image, old, is_flipped in zip(mirrored, before, flipped, strict=True):
        assert torch.equal(image, old.flip(2) if is_flipped else old)
    assert torch.equal(images, before) is not in_place


def test_views_of_a_data_set_of_ones_own_are_never_changed():
    source = Views(noise(6, 3, 120, 120), torch.zeros(6).long())
    before = source.images.clone()
    batch = Images(source, FLIP).__getitems__([(0, index) for index in range(6)])
    assert not torch.equal(batch[0], before)
    assert torch.equal(source.images, before)


@pytest.mark.parametrize(("batches", "loaders"), [(0, 0), (7, 0), (8, 1), (12, 2), (10_000, MOST_LOADERS)])
def test_loader_processes_fit_into_half_of_the_shared_memory(monkeypatch, batches, loaders):
    status = SimpleNamespace(f_bavail=100 * batches, f_frsize=10)
    monkeypatch.setattr("ema_lab.data.memory.os.statvfs", lambda folder: status)
    assert most_loaders(1000) == loaders


def test_a_system_without_the_folder_has_shared_memory_elsewhere(tmp_path):
    assert most_loaders(1000, str(tmp_path / "absent")) == MOST_LOADERS

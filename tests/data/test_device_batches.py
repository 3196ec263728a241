"""Batches made on the device: the pixels, labels and order of the loader."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from ema_lab.data import device_batches as module
from ema_lab.data.batches import Images, OrderedBatches, ShuffledBatches
from ema_lab.data.device_batches import DeviceBatches, fits
from ema_lab.data.images import LabelledImages
from ema_lab.data.module import ImageData
from ema_lab.specs.augment import AugmentSpec

CPU = torch.device("cpu")
SIDES = st.integers(1, 9)


def images(count, channels, height, width):
    pixels = torch.arange(count * channels * height * width).reshape(count, channels, height, width)
    return LabelledImages((pixels * 37 % 251).to(torch.uint8), torch.arange(count) % 7)


def same(one, other):
    one, other = list(one), list(other)
    assert len(one) == len(other) > 0
    for first, second in zip(one, other, strict=True):
        for value, expected in zip(first, second, strict=True):
            assert value.dtype == expected.dtype
            assert torch.equal(value.cpu(), expected)


def both(source, batches, augment, seed, device=CPU):
    """Return the batches of the loader and those of the device."""
    loaded = DataLoader(Images(source, augment, seed), batch_sampler=batches, collate_fn=lambda batch: batch)
    return DeviceBatches(source.to(device), batches, augment, seed), loaded


@given(
    st.tuples(st.integers(2, 12), st.integers(1, 3), SIDES, SIDES),
    st.integers(0, 11),
    st.booleans(),
    st.tuples(st.integers(1, 9), st.integers(0, 2**63), st.integers(0, 300)),
)
def test_a_devices_batches_are_those_of_the_loader(shape, padding, flip, batch):
    batch_size, seed, epoch = batch
    indices = torch.arange(shape[0])[1:]  # a part of the images, as without a validation split
    batches = ShuffledBatches(indices, batch_size, seed)
    batches.set_epoch(epoch)
    same(*both(images(*shape), batches, AugmentSpec(crop_padding=padding, flip=flip), seed))


def test_evaluation_has_every_image_in_order_and_unchanged():
    source = images(11, 3, 4, 5)
    found, loaded = both(source, OrderedBatches(torch.arange(11), 4), None, 0)
    same(found, loaded)
    assert [len(batch[2]) for batch in found] == [4, 4, 3]


def test_a_run_is_served_from_the_device_unless_it_cannot_be(make_spec, tmp_path):
    def served(device=CPU, workers=0, **recipe):
        data = ImageData(make_spec(recipe=recipe), tmp_path, workers)
        data.device = device
        return type(data.train_dataloader())

    assert served() is DeviceBatches
    assert served(workers=1) is DataLoader
    assert served(augment={"resized_crop_area": [0.3, 1.0]}) is DataLoader


def test_large_images_stay_on_the_host(monkeypatch):
    source, device = images(10, 1, 4, 4), torch.device("cuda", 0)
    for memory, expected in ((160 * 8, True), (160 * 8 - 1, False)):
        properties = SimpleNamespace(total_memory=memory)
        monkeypatch.setattr(module.torch.cuda, "get_device_properties", lambda _, found=properties: found)
        assert fits(source, device) is expected


def test_a_resized_crop_is_refused():
    augment = AugmentSpec(resized_crop_area=(0.3, 1.0))
    with pytest.raises(ValueError, match="only padded crops and flips"):
        DeviceBatches(images(4, 1, 2, 2), OrderedBatches(torch.arange(4), 2), augment, 0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_batches_on_cuda_are_those_of_the_loader():
    batches = ShuffledBatches(torch.arange(500), 128, 5)
    batches.set_epoch(7)
    augment = AugmentSpec(crop_padding=4, flip=True)
    same(*both(images(500, 3, 32, 32), batches, augment, 5, torch.device("cuda", 0)))

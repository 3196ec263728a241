import hashlib
import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms import RandomResizedCrop

from ema_lab.data.augmentation import RandomCrop, augmented, crops, random_crops, resized_crops
from ema_lab.data.batches import Images, OrderedBatches, ShuffledBatches
from ema_lab.data.images import ImageSplits, LabelledImages, stratified_choice
from ema_lab.data.module import ImageData, split_indices
from ema_lab.errors import SpecError
from ema_lab.specs.augment import AugmentSpec
from ema_lab.specs.run import DataSpec

VARIANTS = ["none", "se", "cbam", "ca", {"name": "ema", "groups": 4}]


def epoch_hash(data: ImageData, epoch: int) -> str:
    """Return a hash over the indices and pixels of an epoch's batches."""
    loader = data.train_dataloader()
    loader.batch_sampler.set_epoch(epoch)
    digest = hashlib.sha256()
    for images, labels, indices in loader:
        for tensor in (images, labels, indices):
            digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def test_every_variant_sees_the_same_pixels_in_the_same_order(make_spec, tmp_path):
    hashes = {
        tuple(epoch_hash(ImageData(make_spec(variant), tmp_path), epoch) for epoch in (0, 1, 5))
        for variant in VARIANTS
    }
    assert len(hashes) == 1
    assert len(set(hashes.pop())) == 3  # the epochs differ


def test_loader_workers_change_no_batch(make_spec, tmp_path):
    without_workers, with_workers = (ImageData(make_spec(), tmp_path, workers) for workers in (0, 2))
    for epoch in (0, 3):
        assert epoch_hash(without_workers, epoch) == epoch_hash(with_workers, epoch)


def test_another_seed_sees_another_order(make_spec, tmp_path):
    assert len({epoch_hash(ImageData(make_spec(seed=seed), tmp_path), 0) for seed in (0, 1, 2)}) == 3


def order_of(seed: int, epoch: int) -> tuple[int, ...]:
    """Return the images of an epoch in their order, whatever augmentation makes of them."""
    batches = ShuffledBatches(torch.arange(20), 8, seed)
    batches.set_epoch(epoch)
    return tuple(index for batch in batches for _, index in batch)


def test_the_order_alone_is_another_one_for_every_epoch_and_seed():
    orders = [order_of(seed, epoch) for seed in (0, 1) for epoch in (0, 1, 2)]
    assert len(set(orders)) == 6
    assert [sorted(order) for order in orders] == [list(range(20))] * 6


def test_an_image_is_augmented_alike_whatever_batch_it_is_in(make_spec, tmp_path):
    first = ImageData(make_spec(recipe={"batch_size": 8}), tmp_path).splits.train
    images = Images(first, AugmentSpec(crop_padding=2, flip=True), seed=3)
    together = images.__getitems__([(4, index) for index in range(10)])[0]
    one_by_one = torch.cat([images[4, index][0] for index in range(10)])
    assert torch.equal(together, one_by_one)


@given(st.integers(2, 60), st.integers(1, 20))
def test_shuffled_batches_hold_every_image_once(count, batch_size):
    batches = ShuffledBatches(torch.arange(100, 100 + count), batch_size, seed=0)
    served = [index for batch in batches for _, index in batch]
    is_dropped = count % batch_size == 1 and count > 1
    assert len(served) == len(set(served)) == count - is_dropped
    assert len(list(batches)) == len(batches)


def test_ordered_batches_keep_the_order():
    keys = [key for batch in OrderedBatches(torch.tensor([5, 3, 9]), 2) for key in batch]
    assert keys == [(0, 5), (0, 3), (0, 9)]


@given(st.integers(1, 4), st.integers(0, 2**31))
def test_crops_and_flips_agree_with_a_plain_loop(padding, seed):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (3, 2, 6, 5), dtype=torch.uint8, generator=generator)
    rows = torch.randint(0, 2 * padding + 1, (3,), generator=generator)
    columns = torch.randint(0, 2 * padding + 1, (3,), generator=generator)
    padded = torch.zeros(3, 2, 6 + 2 * padding, 5 + 2 * padding, dtype=torch.uint8)
    padded[:, :, padding:-padding, padding:-padding] = images
    expected = torch.stack(
        [p[:, r : r + 6, c : c + 5] for p, r, c in zip(padded, rows, columns, strict=True)]
    )
    assert torch.equal(crops(images, padding, rows, columns), expected)


def test_a_flip_mirrors_about_half_of_the_images():
    images = torch.arange(4, dtype=torch.uint8).reshape(1, 1, 1, 4).expand(2000, 1, 1, 4)
    out = augmented(images, torch.arange(2000), AugmentSpec(flip=True), seed=0, epoch=0)
    mirrored = (out[:, 0, 0, 0] == 3).sum().item()
    assert 900 < mirrored < 1100
    assert torch.equal(out.sort(dim=3).values, images)


def drawn(count, area=(0.08, 1.0), seed=0):
    return random_crops(torch.arange(count), area, seed, epoch=0)


@given(
    st.integers(1, 300), st.integers(1, 300), st.floats(0.01, 1), st.floats(0.01, 1), st.integers(0, 2**31)
)
def test_a_random_crop_lies_inside_the_image(height, width, first, second, seed):
    area = (min(first, second), max(first, second))
    for crop in drawn(20, area, seed):
        top, left, rows, columns = crop.box(height, width)
        assert 0 <= top <= top + rows <= height
        assert 0 <= left <= left + columns <= width
        assert min(rows, columns) > 0


def test_random_crops_have_the_distribution_of_torchvisions():
    torch.manual_seed(0)
    image = torch.zeros(3, 300, 400)
    torchvision_boxes = [
        RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(4000)
    ]
    boxes = [crop.box(300, 400) for crop in drawn(4000)]
    for ours, theirs in zip(zip(*boxes, strict=True), zip(*torchvision_boxes, strict=True), strict=True):
        ours, theirs = torch.tensor(ours).double(), torch.tensor(theirs).double()
        deviation = (ours.var() / len(ours) + theirs.var() / len(theirs)).sqrt()
        assert abs(ours.mean() - theirs.mean()) < 4 * deviation
        quantiles = torch.tensor([0.1, 0.25, 0.5, 0.75, 0.9], dtype=torch.float64)
        assert (ours.quantile(quantiles) - theirs.quantile(quantiles)).abs().max() < 12


@pytest.mark.parametrize(("height", "width"), [(20, 200), (200, 20), (7, 100)])
def test_a_crop_that_never_fits_is_the_middle_that_torchvision_takes(height, width):
    theirs = RandomResizedCrop.get_params(torch.zeros(3, height, width), [1.0, 1.0], [3 / 4, 4 / 3])
    assert {crop.box(height, width) for crop in drawn(9, (1.0, 1.0))} == {theirs}


def test_the_first_try_that_fits_is_taken():
    tries = [(1.0, 0.5, 0.0, 0.0), (0.25, 0.5, 0.5, 0.999), (0.5, 0.5, 0.0, 0.0)]
    assert RandomCrop((0.0, 1.0), tries).box(10, 8) == (3, 4, 4, 4)  # 4.47 squared is a quarter of 80
    assert RandomCrop((0.0, 1.0), tries[:1]).box(10, 8) == (0, 0, 10, 8)


@given(st.integers(0, 2**31), st.integers(1, 9), st.integers(1, 9), st.integers(1, 3))
def test_resized_crops_agree_with_torchs_interpolation(seed, height, width, channels):
    generator = torch.Generator().manual_seed(seed)
    shape = (5, channels, height, width)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    boxes = [crop.box(height, width) for crop in drawn(5, seed=seed)]
    resized = resized_crops(images, boxes)
    for image, (top, left, rows, columns), crop in zip(images, boxes, resized, strict=True):
        part = image[None, :, top : top + rows, left : left + columns].double()
        expected = torch.nn.functional.interpolate(part, (height, width), mode="bilinear")
        assert (crop - expected[0]).abs().max() <= 0.51  # rounded to whole levels


def test_a_resized_crop_is_alike_in_every_batch(make_spec, tmp_path):
    source = ImageData(make_spec(), tmp_path).splits.train
    images = Images(source, AugmentSpec(resized_crop_area=(0.3, 0.9), flip=True), seed=3)
    together = images.__getitems__([(4, index) for index in range(40)])[0]
    one_by_one = torch.cat([images[4, index][0] for index in range(40)])
    assert torch.equal(together, one_by_one)
    assert (together.shape, together.dtype) == (source.images.shape, torch.uint8)
    whole = Images(source, AugmentSpec(resized_crop_area=(1.0, 1.0)), seed=3)[4, 0][0]
    assert torch.equal(whole[0], source.images[0])


@given(st.lists(st.integers(0, 4), min_size=5, max_size=80), st.data())
def test_a_stratified_choice_gives_every_class_its_share(labels, data):
    count = data.draw(st.integers(0, len(labels)))
    labels = torch.tensor(labels)
    chosen = stratified_choice(labels, count, "test", 1)
    assert chosen.sum().item() == count
    for label in labels.unique():
        share = (labels == label).sum().item() * count / len(labels)
        assert abs((chosen & (labels == label)).sum().item() - share) < 1


def test_the_validation_split_leaves_train_and_follows_its_own_seed(make_spec, tmp_path):
    def split(seed, split_seed):
        spec = make_spec(data={"val_images": 10, "split_seed": split_seed}, seed=seed)
        return ImageData(spec, tmp_path)

    run, other_run, other_split = split(0, 0), split(1, 0), split(0, 1)
    assert len(run.val_indices) == 10
    assert not set(run.val_indices.tolist()) & set(run.train_indices.tolist())
    assert torch.equal(run.val_indices, other_run.val_indices)
    assert not torch.equal(run.val_indices, other_split.val_indices)
    assert len(ImageData(make_spec(), tmp_path).val_indices) == 0


def test_a_subset_of_the_training_images_is_stratified_and_follows_the_splits_seed(make_spec, tmp_path):
    def subset(seed=0, **data):
        return ImageData(make_spec(data={"name": "digits", **data}, seed=seed), tmp_path)

    run = subset(train_images=100, val_images=200)
    assert (len(run.train_indices), len(run.val_indices)) == (100, 200)
    assert run.train_indices.tolist() == sorted(set(run.train_indices.tolist()))
    assert not set(run.train_indices.tolist()) & set(run.val_indices.tolist())
    assert set(run.splits.train.labels[run.train_indices].bincount().tolist()) <= {9, 10, 11}
    assert torch.equal(run.train_indices, subset(1, train_images=100, val_images=200).train_indices)
    other = subset(train_images=100, val_images=200, split_seed=1)
    assert not torch.equal(run.train_indices, other.train_indices)
    assert torch.equal(run.val_indices, subset(val_images=200).val_indices)
    first, second = (subset(train_images=100, split_seed=number) for number in (0, 1))
    assert not torch.equal(first.train_indices, second.train_indices)  # no validation split moves it
    served = torch.cat([indices for _, _, indices in run.train_dataloader()])
    assert torch.equal(served.sort().values, run.train_indices)


def test_a_subset_that_was_once_chosen_stays():
    labels = torch.arange(40) % 4
    train, val = split_indices(labels, DataSpec(name="digits", val_images=4, train_images=8))
    assert (train.tolist(), val.tolist()) == ([12, 15, 17, 24, 27, 30, 34, 37], [10, 11, 25, 36])


def test_a_split_that_a_run_lacks_is_refused(make_spec, tmp_path):
    with pytest.raises(SpecError, match="no split 'val'; it has train, test"):
        ImageData(make_spec(), tmp_path).split("val")


def test_images_are_normalised_by_the_recipes_statistics(make_spec, tmp_path):
    spec = make_spec(recipe={"normalise": {"mean": [0.5, 0.25, 0.0], "std": [0.5, 0.25, 1.0]}})
    images = torch.full((1, 3, 2, 2), 255, dtype=torch.uint8)
    data = ImageData(spec, tmp_path)
    for _ in range(2):
        assert data.normalised(images)[0, :, 0, 0].tolist() == pytest.approx([1.0, 3.0, 1.0])
    assert data.normalised(images.to("meta")).device.type == "meta"
    assert images.unique().tolist() == [255]


def test_one_image_alone_makes_no_batch():
    images = LabelledImages(torch.zeros(3, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 1, 2]))
    batches = ShuffledBatches(torch.arange(3), 2, seed=0)
    assert [len(Images(images).__getitems__(batch)[1]) for batch in batches] == [2]


@pytest.mark.parametrize("padding", [1, 2])
def test_rows_columns_and_mirrors_are_drawn_alike_and_apart(padding):
    """Check that all combinations are equally frequent: the draws are uniform and independent."""
    side, count, limit = 8, 30_000, 2 * padding + 1
    positions = torch.arange(1.0, side * side + 1).reshape(1, 1, side, side).expand(count, 1, side, side)
    spec = AugmentSpec(crop_padding=padding, flip=True)
    out = augmented(positions, torch.arange(count), spec, seed=3, epoch=2)
    middle = out[:, 0, 4, 3:5].long() - 1  # where no padding reaches
    rows, columns = middle[:, 0] // side - 4 + padding, middle % side
    mirror = columns[:, 0] > columns[:, 1]
    left = torch.where(mirror, columns[:, 1] - 3, columns[:, 0] - 3) + padding
    drawn = torch.bincount((rows * limit + left) * 2 + mirror, minlength=limit * limit * 2)
    expected = count / (limit * limit * 2)
    assert len(drawn) == limit * limit * 2
    assert drawn.sub(expected).abs().max() < 5 * expected**0.5


def test_the_four_numbers_of_a_resized_crop_and_its_tries_are_drawn_apart():
    count = 4_000
    tries = torch.tensor([crop.tries for crop in random_crops(torch.arange(count), (0.1, 1.0), 0, 1)])
    related = torch.corrcoef(tries.reshape(count, -1).T) - torch.eye(40)
    assert related.abs().max() < 6 / count**0.5
    other = torch.tensor([crop.tries for crop in random_crops(torch.arange(count), (0.1, 1.0), 0, 2)])
    both = torch.cat([tries.reshape(count, -1), other.reshape(count, -1)], dim=1)
    assert (torch.corrcoef(both.T) - torch.eye(80)).abs().max() < 6 / count**0.5


def test_a_resized_crop_reaches_the_first_and_the_last_row_and_column():
    edge = 1 - 2**-32  # the greatest number that is drawn
    for number, places in ((0.0, (0, 0)), (edge, (12, 22))):
        top, left, rows, columns = RandomCrop((0.04, 0.04), [(0.5, 0.5, number, number)]).box(15, 27)
        assert (top, left) == (round(number) * (15 - rows), round(number) * (27 - columns))
        assert (rows, columns) == (4, 4) or places


def test_the_checksum_of_images_in_memory_covers_pixels_labels_and_splits():
    images, labels = torch.arange(16, dtype=torch.uint8).reshape(4, 1, 2, 2), torch.tensor([0, 1, 0, 1])
    part = LabelledImages(images, labels)
    parts = {
        "the same": LabelledImages(images.clone(), labels.clone()),
        "a pixel": LabelledImages(images.flip(0), labels),
        "a label": LabelledImages(images, labels.flip(0)),
        "the shape": LabelledImages(images.reshape(4, 1, 4, 1), labels),
    }
    checksums = {what: ImageSplits(other, part).sha256 for what, other in parts.items()}
    assert checksums["the same"] == ImageSplits(part, part).sha256
    assert len(set(checksums.values())) == len(checksums)
    other = parts["a label"]
    assert ImageSplits(part, other).sha256 != ImageSplits(other, part).sha256


def test_only_training_changes_images(make_spec, tmp_path):
    recipe = {"augment": {"crop_padding": 4, "flip": True}}
    data = ImageData(make_spec(recipe=recipe, data={"val_images": 10}), tmp_path)
    sources = {"train": data.splits.train, "val": data.splits.train, "test": data.splits.test}
    for split, source in sources.items():
        for images, _, indices in data.split(split):
            assert torch.equal(images, source.whole(indices)), split
    for images, _, indices in data.train_dataloader():
        assert not torch.equal(images, data.splits.train.whole(indices))


def test_crops_and_mirrors_are_drawn_anew_in_every_epoch_and_for_every_seed():
    images = torch.arange(64, dtype=torch.uint8).reshape(1, 1, 8, 8).expand(200, 1, 8, 8)
    for spec in (AugmentSpec(crop_padding=4), AugmentSpec(flip=True)):
        draws = [
            augmented(images, torch.arange(200), spec, seed, epoch) for seed in (0, 1) for epoch in (0, 1)
        ]
        for first, second in itertools.combinations(draws, 2):
            apart = (first != second).flatten(1).any(1).sum()
            assert apart >= 60  # half of the mirrors, and nearly all crops, are others

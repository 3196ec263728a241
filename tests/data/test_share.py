"""A rank's share of global batches: nothing is lost, counted twice or mixed with another partner."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ema_lab.data.batches import Images, ShuffledBatches
from ema_lab.data.images import LabelledImages
from ema_lab.data.share import LEAST_IMAGES, Share
from ema_lab.models.dropout import SeededDropout, seed_dropout, set_step
from ema_lab.specs.augment import AugmentSpec
from ema_lab.training.step import Step

WORLDS = st.integers(1, 9)


@given(WORLDS, st.integers(1, 200))
def test_parts_cover_a_batch_exactly_or_are_all_the_whole_batch(world, images):
    parts = [Share(rank, world).part(images) for rank in range(world)]
    counted = [position for part in parts if part.counts for position in range(part.start, part.stop)]
    assert counted == list(range(images))
    if all(part.is_whole for part in parts):
        assert world == 1 or images < LEAST_IMAGES * world
    else:
        sizes = {part.size for part in parts}
        assert min(sizes) >= LEAST_IMAGES
        assert max(sizes) - min(sizes) <= 1


@given(WORLDS, st.integers(1, 60))
def test_the_mean_over_ranks_is_the_mean_over_the_batch(world, images):
    losses = torch.rand(images, dtype=torch.float64)
    parts = [Share(rank, world).part(images) for rank in range(world)]
    of_ranks = [part.factor * losses[part.start : part.stop].mean() for part in parts]
    assert torch.stack(of_ranks).mean().item() == pytest.approx(losses.mean().item())


@given(WORLDS, st.integers(1, 5), st.integers(1, 70), st.integers(0, 3))
def test_a_global_batch_is_the_same_images_for_any_number_of_ranks(world, each, images, first):
    def batches(share: Share, form: str) -> list[list[int]]:
        sampler = ShuffledBatches(torch.arange(images), each * world, seed=3, share=share)
        sampler.begin_at(1, min(first, len(sampler) - 1))
        if form == "keys":
            return [[index for _, index in keys] for keys in sampler]
        return [indices.tolist() for _, indices in sampler.on(torch.device("cpu"))]

    alone = batches(Share(), "keys")
    for form in ("keys", "on"):
        for batch, parts in zip(
            alone, zip(*(batches(Share(r, world), form) for r in range(world)), strict=True), strict=True
        ):
            if len(batch) < LEAST_IMAGES * world:
                assert all(part == batch for part in parts)
            else:
                assert [index for part in parts for index in part] == batch


@pytest.mark.parametrize("images", [16, 19])  # the last batch is cut, or computed by every rank
def test_mixtures_are_those_of_the_global_batch(images):
    noise = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (images, 3, 8, 8), dtype=torch.uint8, generator=noise)
    source = LabelledImages(pixels, torch.arange(images) % 5)
    augment = AugmentSpec.model_validate({"mix": {"mixup": 0.4, "cutmix": 1.0}})
    served = Images(source, augment, seed=1, classes=5)

    def epoch(share: Share) -> list[tuple[torch.Tensor, ...]]:
        return [
            served.__getitems__(keys) for keys in ShuffledBatches(torch.arange(images), 8, 0, share=share)
        ]

    for whole, one, other in zip(
        *(epoch(share) for share in (Share(), Share(0, 2), Share(1, 2))), strict=True
    ):
        for expected, first, second in zip(whole, one, other, strict=True):
            found = first if len(first) == len(expected) else torch.cat([first, second])
            assert torch.equal(found, expected)


def test_dropout_masks_are_those_of_the_global_batch():
    for layer in (torch.nn.Dropout(0.5), torch.nn.Dropout2d(0.5)):
        model = torch.nn.Sequential(layer)
        seed_dropout(model, 0)
        dropout = model[0]
        assert isinstance(dropout, SeededDropout)
        set_step([dropout], 4)
        whole = dropout.train()(torch.ones(6, 5, 2, 2))
        merged = dropout(torch.ones(12, 5, 2, 2))  # as of attention in two groups
        parts, of_groups = [], []
        for part in (Share(rank, 2).part(6) for rank in range(2)):
            set_step([dropout], 4, part.start, part.size)
            parts.append(dropout(torch.ones(part.size, 5, 2, 2)))
            of_groups.append(dropout(torch.ones(2 * part.size, 5, 2, 2)))
        assert torch.equal(torch.cat(parts), whole)
        assert torch.equal(torch.cat(of_groups), merged)


def test_gradients_of_ranks_average_to_those_of_the_global_batch(make_spec):
    losses = torch.rand(5, dtype=torch.float64)  # the last batch of 21 images

    def minimised(reduction: str, share: Share) -> float:
        spec = make_spec(recipe={"reduction": reduction}, data={"train_images": 21})
        step = Step(spec, torch.nn.Linear(1, 1), SimpleNamespace(), steps_per_epoch=3, share=share)
        step.begin(2)
        part = step.part or Share().part(5)
        own = losses[part.start : part.stop]
        minimised: list[torch.Tensor] = []
        step.add_gradients(SimpleNamespace(loss=own.mean(), images=len(own)), 2, minimised.append)
        return minimised[0].item()

    for reduction in ("mean", "sum"):
        ranks = [minimised(reduction, Share(rank, 2)) for rank in range(2)]
        assert sum(ranks) / 2 == pytest.approx(minimised(reduction, Share()))

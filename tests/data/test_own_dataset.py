"""Custom data sets: facts come from the user's file, and the images are checked against the facts."""

import re

import pytest
import torch

from ema_lab.data.load import load_splits
from ema_lab.errors import DataError, SpecError
from ema_lab.execution.smoke import smoke_spec
from ema_lab.specs.dataset import DatasetFacts, dataset_facts
from ema_lab.specs.run import DataSpec
from ema_lab.store.source import source_hashes
from ema_lab.tasks.task import check_data

FACTS = (
    'FACTS = {"classes": 3, "channels": 1, "image_size": 4, "train_images": 6, "test_images": 3, '
    '"mean": [0.5], "std": [0.25]}\n'
)
CODE = """
import torch
from ema_lab.data.images import ImageSplits, LabelledImages

def part(count):
    return LabelledImages(torch.zeros(count, 1, 4, 4, dtype=torch.uint8), torch.arange(count) % 3)

def own(root, *, train_images: int = 6, levels: list[int] = None):
    return ImageSplits(part(train_images), part(3))
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Return a function that writes a data set's file and returns the set's name."""
    monkeypatch.chdir(tmp_path)
    written = []

    def write(facts=FACTS, code=CODE):
        written.append(f"own_set_{len(written)}_of_{tmp_path.name}")
        (tmp_path / f"{written[-1]}.py").write_text(facts + code)
        return f"{written[-1]}:own"

    return write


class TestFacts:
    def test_are_read_without_running_the_file(self, module):
        name = module(code="raise RuntimeError('imported')\ndef own(root): ...\n")
        assert dataset_facts(name, {}) == DatasetFacts(3, 1, 4, 6, 3, (0.5,), (0.25,))

    def test_may_be_annotated(self, module):
        assert dataset_facts(module(FACTS.replace("FACTS", "FACTS: dict[str, object]", 1)), {}).classes == 3

    def test_of_several_data_sets_in_a_file_are_keyed_by_function(self, module):
        literal = FACTS.strip().removeprefix("FACTS = ")
        other = literal.replace('"classes": 3', '"classes": 7')
        facts = f'FACTS = {{"own": {literal}, "other": {other}}}\n'
        name = module(facts, CODE + "\ndef other(root): ...\n")
        assert dataset_facts(name, {}) == DatasetFacts(3, 1, 4, 6, 3, (0.5,), (0.25,))
        assert dataset_facts(name.replace(":own", ":other"), {}).classes == 7

    @pytest.mark.parametrize("channels", [1, 3])
    def test_may_give_one_mean_for_every_channel(self, module, channels):
        facts = FACTS.replace("[0.5]", "0.5").replace("[0.25]", "0.25")
        name = module(facts.replace('"channels": 1', f'"channels": {channels}'))
        assert dataset_facts(name, {}).mean == (0.5,) * channels
        assert dataset_facts(name, {}).std == (0.25,) * channels

    def test_are_replaced_by_options_of_their_name(self, module):
        spec = DataSpec(name=module(), train_images=9)
        assert spec.facts.train_images == 9
        assert DataSpec(name=spec.name).facts.train_images == 6
        assert DataSpec(name=spec.name, train_images=6).resolved() == {"name": spec.name}

    @pytest.mark.parametrize(
        ("facts", "message"),
        [
            ("", r"\.py has no module-level FACTS; the facts of a data set are a literal such as FACTS = {"),
            ("x = 1\nFACTS = dict(classes=3)\n", r"\.py:2: FACTS must be a literal; the facts of"),
            ("FACTS = 3\n", r"\.py:1: FACTS must be a dict, got 3; the facts of"),
            (FACTS.replace('"classes": 3, ', ""), r"\.py:1: FACTS: classes: is missing; the facts of"),
            (FACTS.replace("3", "0", 1), r"classes: must be 1 or more, got 0"),
            (FACTS.replace("classes", "clases"), r"clases: no key is named 'clases'; did you mean 'classes'"),
            (FACTS.replace("[0.5]", "[0.5, 0.5]"), r"mean: needs 1 value, one per channel, got"),
            (FACTS.replace("[0.25]", "[0.0]"), r"std\.0: must be above 0"),
            (FACTS.replace("{", "", 1), r"\.py:1: "),
        ],
    )
    def test_that_are_absent_or_malformed_are_one_line(self, module, facts, message):
        name = module(facts)
        with pytest.raises(SpecError, match=message) as caught:
            dataset_facts(name, {})
        assert len(str(caught.value).splitlines()) == 1
        with pytest.raises(ValueError, match=r"name\n"):
            DataSpec(name=name)


class TestImages:
    def test_are_loaded_with_the_options(self, module, tmp_path):
        spec = DataSpec(name=module(), train_images=9, levels=[1, 2])
        assert load_splits(spec, tmp_path).train.images.shape == (9, 1, 4, 4)

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ("count, 1, 4, 4", "count, 1, 4, 5", "expected images of shape (6, 1, 4, 4), found (6, 1, 4, 5)"),
            ("torch.uint8", "torch.float32", "expected images of type torch.uint8, found torch.float32"),
            ("torch.arange(count) % 3", "torch.arange(count)", "expected labels from 0 to 2, found 0 to 5"),
            ("torch.arange(count) % 3", "torch.zeros(count)", "expected labels of shape (6,) of type torch"),
            (
                "ImageSplits(part(train_images)",
                "ImageSplits(train_images",
                "LabelledImages of tensors, found 6",
            ),
            ("torch.arange(count) % 3", "[0] * count", "expected labels as a tensor, found a list"),
            ("ImageSplits(part", "tuple(part", "cannot be loaded: TypeError: tuple expected"),
            (
                "return ImageSplits(part(train_images), part(3))",
                "return part(3)",
                "returned a LabelledImages, not ema_lab.data.images.ImageSplits",
            ),
        ],
    )
    def test_that_are_not_what_the_facts_say_are_refused(self, module, tmp_path, old, new, message):
        assert old in CODE
        name = module(code=CODE.replace(old, new))
        with pytest.raises(DataError, match=re.escape(message)):
            check_data(DataSpec(name=name), tmp_path)

    def test_that_are_absent_say_so_in_the_words_of_their_author(self, module, tmp_path):
        raising = 'def own(root):\n    raise FileNotFoundError(f"{root} holds no images")\n'
        with pytest.raises(DataError, match=r"cannot be loaded: FileNotFoundError: .* holds no images"):
            load_splits(DataSpec(name=module(code=raising)), tmp_path)


def test_a_changed_file_changes_the_hash_of_the_data_alone(module, make_spec):
    def hashes(code):
        return source_hashes(make_spec(data={"name": module(code=code)}))

    original, same, other = (
        hashes(CODE),
        hashes(CODE + "# a comment\n"),
        hashes(CODE.replace("zeros", "ones")),
    )
    assert original == same
    assert {part for part in original if original[part] != other[part]} == {"data"}


def test_a_smoke_run_has_images_of_the_same_shape(module, make_spec):
    facts = smoke_spec(make_spec(data={"name": module()})).data.facts
    assert (facts.classes, facts.channels, facts.image_size) == (3, 1, 4)


def test_options_that_cannot_be_hashed_are_loaded_once(module, tmp_path):
    spec = DataSpec(name=module(), levels=[1, 2])
    assert load_splits(spec, tmp_path) is load_splits(spec, tmp_path)
    assert torch.equal(load_splits(spec, tmp_path).test.labels, torch.arange(3))


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        (
            "cifar10",
            DatasetFacts(
                *(10, 3, 32, 50_000, 10_000),
                (0.49139968, 0.48215827, 0.44653124),
                (0.24703233, 0.24348505, 0.26158768),
            ),
        ),
        (
            "cifar100",
            DatasetFacts(
                *(100, 3, 32, 50_000, 10_000),
                (0.50707516, 0.48654887, 0.44091784),
                (0.26733429, 0.25643846, 0.27615047),
            ),
        ),
        ("digits", DatasetFacts(10, 1, 8, 1_437, 360, (0.30519,), (0.37580,))),
        ("fashion_mnist", DatasetFacts(10, 1, 28, 60_000, 10_000, (0.28604059,), (0.35302424,))),
        (
            "imagenet",
            DatasetFacts(1000, 3, 224, 1_281_167, 50_000, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ),
        ("synthetic", DatasetFacts(10, 3, 32, 512, 256, (0.5,) * 3, (0.25,) * 3)),
    ],
)
def test_the_facts_of_shipped_data_sets_are_what_they_have_always_been(name, facts):
    assert dataset_facts(name, {}) == facts

"""New data sets from folders of images: facts as measured, code that loads them, faults by name."""

import importlib.util
import io
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from ema_lab.cli.main import app
from ema_lab.data.load import load_splits
from ema_lab.data.measure import layout_of, measure
from ema_lab.errors import DataError, SpecError
from ema_lab.specs.run import DataSpec
from ema_lab.workflow.define.measured_dataset import measured_dataset

SIDES = (20, 24, 40)


def picture(number: int, *, grey: bool = False) -> Image.Image:
    shape = (SIDES[number % 3], 48, 3)
    values = np.random.default_rng(number).integers(0, 256, shape, dtype=np.uint8)
    return Image.fromarray(values).convert("L") if grey else Image.fromarray(values)


def write(base: Path, *, test: str = "val", grey: bool = False) -> None:
    number = 0
    for split, count in (("train", 3), (test, 1)):
        for name in ("cat", "dog"):
            (base / split / name).mkdir(parents=True)
            for _ in range(count):
                picture(number, grey=grey).save(base / split / name / f"{number}.png")
                number += 1


@pytest.fixture
def pets(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(Path("data/pets"))
    return Path("data/pets")


def unique(folder: Path) -> str:
    """Return a module's name that no other test has imported."""
    return "pets_of_" + "".join(letter for letter in folder.resolve().parents[1].name if letter.isalnum())


def test_facts_are_those_of_the_pixels(pets):
    facts = measure(pets)
    values = []
    for number in range(6):
        side = round((height := SIDES[number % 3]) / (256 / 224))
        top, left = (height - side) // 2, (48 - side) // 2
        values.append(np.asarray(picture(number))[top : top + side, left : left + side] / 255)
    mean = np.mean([value.mean((0, 1)) for value in values], axis=0)
    square = np.mean([(value**2).mean((0, 1)) for value in values], axis=0)
    assert facts.mean == pytest.approx(mean, abs=1e-4)
    assert facts.std == pytest.approx(np.sqrt(square - mean**2), abs=1e-4)
    assert (facts.classes, facts.channels, facts.names) == (2, 3, ("cat", "dog"))
    assert (facts.train_images, facts.test_images, facts.read) == (6, 2, 8)
    assert (facts.sides, facts.image_size) == ((20, 24, 40), 24)


def test_the_written_data_set_loads_with_its_facts(pets):
    name = unique(pets)
    file = measured_dataset(name, pets)
    assert file.use == f"data: {{name: '{name}:{name}'}}  (check it: ema-lab check {name}:{name})"
    spec = DataSpec.model_validate({"name": f"{name}:{name}"})
    splits = load_splits(spec, Path("data"))
    assert splits.train.shape == (6, 3, 24, 24)
    assert spec.facts.mean == measure(pets).mean
    code = file.path.read_text()
    assert "Images of 2 classes (cat, dog) in pets, in colour." in code
    assert "Measured from all 8 images: shorter sides of 20 to 40 pixels, 24 in the middle." in code


def test_files_that_change_later_are_refused(pets):
    name = f"later_{unique(pets)}"
    measured_dataset(name, pets)
    (pets / "val/cat/6.png").write_bytes((pets / "val/dog/7.png").read_bytes() + b" ")
    module = importlib.util.spec_from_file_location(name, f"{name}.py")
    code = importlib.util.module_from_spec(module)
    module.loader.exec_module(code)
    with pytest.raises(DataError, match="its files changed"):
        getattr(code, name)(Path("data"))


def test_grey_images_have_one_channel_and_large_ones_the_usual_size(tmp_path):
    write(tmp_path / "grey", test="test", grey=True)
    facts = measure(tmp_path / "grey", sample=2)
    assert (facts.channels, len(facts.mean), facts.read, facts.train_images) == (1, 1, 4, 6)
    picture(0).resize((400, 300)).save(tmp_path / "grey/train/cat/0.png")
    assert measure(tmp_path / "grey", image_size=64).image_size == 64
    for path in (tmp_path / "grey").rglob("*.png"):
        picture(0).resize((400, 300)).save(path)
    assert measure(tmp_path / "grey").image_size == 224


def test_lists_and_shards_are_found(pets, tmp_path):
    lines = {"train.csv": ["path,label"], "val.csv": ["path,label"]}
    for split in ("train", "val"):
        with tarfile.open(tmp_path / f"{split}-0.tar", "w") as shard:
            for label, name in enumerate(("cat", "dog")):
                for path in sorted((pets / split / name).iterdir()):
                    lines[f"{split}.csv"].append(f"pets/{split}/{name}/{path.name},{name}")
                    for member, content in (
                        (path.name, path.read_bytes()),
                        (f"{path.stem}.cls", str(label).encode()),
                    ):
                        info = tarfile.TarInfo(member)
                        info.size = len(content)
                        shard.addfile(info, io.BytesIO(content))
    folder = measure(pets)
    for name, text in lines.items():
        (pets.parent / name).write_text("\n".join(text) + "\n")
    listed, shards = measure(pets.parent), measure(tmp_path)
    assert layout_of(pets.parent).train == "train.csv"
    for facts in (listed, shards):
        assert (facts.mean, facts.std, facts.classes) == (folder.mean, folder.std, 2)
    assert shards.names == ()


def test_files_that_are_not_used_are_counted_and_the_first_are_named(pets):
    for number in range(6):
        (pets / "train" / "cat" / f"{number}.jfif").write_bytes(b"")
    (pets / "val" / "dog" / ".hidden").write_bytes(b"")
    name = unique(pets)
    outcome = CliRunner().invoke(app, ["new", "dataset", name, "--from", str(pets)])
    assert outcome.exit_code == 0
    assert "6 files without an image's ending, not used: data/pets/train/cat/0.jfif, " in outcome.stderr
    assert "3.jfif, ...\n" in outcome.stderr
    assert "hidden" not in outcome.stderr


def test_broken_images_are_counted_and_the_first_are_named(pets):
    for number in range(6):
        path = pets / "train" / ("cat" if number < 3 else "dog") / f"{number}.png"
        path.write_bytes(b"no image")
    with pytest.raises(DataError) as caught:
        measured_dataset("broken", pets)
    text = str(caught.value)
    assert text.startswith(
        "data/pets: 6 images of 8 cannot be read, mend or remove them: data/pets/train/cat/0.png"
    )
    assert text.endswith("; and 1 more")
    assert "\n" not in text
    assert not Path("broken.py").exists()


def test_a_folder_outside_of_the_data_is_refused(pets, tmp_path):
    shutil.move(pets, tmp_path / "pets")
    with pytest.raises(SpecError, match="pets does not lie below the folder of the data sets, data"):
        measured_dataset("outside", tmp_path / "pets")
    with pytest.raises(DataError, match="holds images in no known way: expected train/CLASS and val/CLASS"):
        measured_dataset("nothing", Path("data"))
    with pytest.raises(SpecError, match=r"data/nothing is no folder$"):
        measured_dataset("nothing", Path("data/nothing"))


def test_a_path_that_counts_from_the_data_gets_a_suggestion(pets):
    with pytest.raises(SpecError, match=r"^pets is no folder; did you mean data/pets\?"):
        measured_dataset("mine", Path("pets"))


def test_the_command_measures_and_says_how_to_go_on(pets):
    name = f"command_{unique(pets)}"
    result = CliRunner().invoke(app, ["new", "dataset", name, "--from", str(pets), "--image-size", "16"])
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{name}.py\n"
    assert f"next: data: {{name: '{name}:{name}'}}" in result.stderr
    shown = CliRunner().invoke(app, ["list", "datasets", "--json"])
    assert "imagefolder" in {row["name"] for row in json.loads(shown.stdout)}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ablation", "x", "--from", "data/pets"], "--from measures images, so it is for `new dataset`"),
        (["dataset", "x", "--sample", "3"], "--sample changes nothing without --from FOLDER"),
        (["dataset", "x", "--image-size", "3"], "--image-size changes nothing without --from FOLDER"),
    ],
)
def test_options_of_another_kind_are_refused(pets, words, message):
    with pytest.raises(SpecError, match=message):
        CliRunner().invoke(app, ["new", *words], catch_exceptions=False, standalone_mode=False)

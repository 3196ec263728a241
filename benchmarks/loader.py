"""Images per second from a folder of JPEG files, beside torchvision's reference loader.

    python benchmarks/loader.py [--images 512] [--rounds 3] [--workers 0 1 2]

Both read the same photographs into training batches of 224 x 224 images with a random resized crop and a
flip. The reference is what torchvision's training script builds: ImageFolder, RandomResizedCrop,
RandomHorizontalFlip, PILToTensor, conversion to float, Normalize, DataLoader. Ours serves bytes that the
training normalises, and the normalisation is counted. `resized` is ours with `shorter_side: 256`; the first
round makes the copies. Rounds alternate, so that a busy machine slows all. The last line is the same figures
as JSON.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from ema_lab.data.batches import Images, ShuffledBatches
from ema_lab.data.image_folder import ImageFolderImages
from ema_lab.data.memory import standardised
from ema_lab.specs.recipe import AugmentSpec
from ema_lab.training.environment import processor, versions

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
SIZE, BATCH = 224, 64


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2], help="loader processes of both")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "photographs"
        folder.mkdir()
        write_photographs(folder, arguments.images)
        rows = [measured(folder, workers, arguments.rounds) for workers in arguments.workers]
    print(json.dumps({"rows": rows, "device": processor(), "versions": versions()}))


def measured(folder: Path, workers: int, rounds: int) -> dict[str, object]:
    """Measure both loaders in turn, and print the figures."""
    loaders = {
        "reference": reference(folder, workers),
        "ours": ours(folder, workers),
        "resized": ours(folder, workers, shorter_side=256),
    }
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in loaders}
    for number in range(rounds + 1):
        for name, loader in loaders.items():
            began = time.perf_counter(), time.process_time()
            count = read(loader, normalise=name != "reference")
            if number:  # the first round fills the caches
                ended = time.perf_counter(), time.process_time()
                seconds[name].append(((ended[0] - began[0]) / count, (ended[1] - began[1]) / count))
    row: dict[str, object] = {"workers": workers}
    for name, times in seconds.items():
        pairs = list(zip(seconds["reference"], times, strict=True))
        row[name] = 1 / statistics.median(wall for wall, _ in times)
        ratio = row[f"{name}_ratio"] = statistics.median(first[0] / second[0] for first, second in pairs)
        text = f"{workers} workers, {name}: {row[name]:.0f} images/s, {ratio:.2f} of the reference"
        if workers == 0:  # else the processor time of the loader processes would be missing
            processor_ratio = statistics.median(first[1] / second[1] for first, second in pairs)
            row[f"{name}_processor_ratio"] = processor_ratio
            text += f", by processor time {processor_ratio:.2f}"
        print(f"{text} (medians of {rounds} pairs)")
    return row


def write_photographs(folder: Path, count: int) -> None:
    """Write parts of two photographs, of about ImageNet's size, into two class folders."""
    photographs = [Image.fromarray(array) for array in load_sample_images().images]
    random = np.random.default_rng(0)
    for number in range(count):
        left, top = int(random.integers(0, 140)), int(random.integers(0, 52))
        part = photographs[number % 2].crop((left, top, left + 500, top + 375))
        (folder / f"class{number % 2}").mkdir(exist_ok=True)
        quality, subsampling = int(random.integers(85, 97)), int(random.choice([0, 2]))
        path = folder / f"class{number % 2}" / f"{number:05}.jpeg"
        part.save(path, quality=quality, subsampling=subsampling)


def reference(folder: Path, workers: int) -> DataLoader:
    """Return torchvision's loader of a folder."""
    steps = [
        transforms.RandomResizedCrop(SIZE, antialias=True),
        transforms.RandomHorizontalFlip(),
        transforms.PILToTensor(),
        transforms.ConvertImageDtype(torch.float),
        transforms.Normalize(MEAN, STD),
    ]
    images = ImageFolder(str(folder), transforms.Compose(steps))
    return DataLoader(images, BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0)


def ours(folder: Path, workers: int, shorter_side: int | None = None) -> DataLoader:
    """Return our loader of a folder: the batches of a run on image files."""
    source = ImageFolderImages.read(folder, SIZE).resized(shorter_side)
    augment = AugmentSpec(resized_crop_area=(0.08, 1.0), flip=True)
    return DataLoader(
        Images(source, augment, seed=0),
        batch_sampler=ShuffledBatches(torch.arange(len(source.labels)), BATCH, seed=0),
        num_workers=workers,
        persistent_workers=workers > 0,
        collate_fn=lambda batch: batch,
    )


def read(loader: Iterable, *, normalise: bool) -> int:
    """Read an epoch; return the number of its images."""
    mean = 255 * torch.tensor(MEAN).reshape(1, -1, 1, 1)
    std = 255 * torch.tensor(STD).reshape(1, -1, 1, 1)
    count = 0
    for images, *_ in loader:
        if normalise:
            images = standardised(images, mean, std)
        count += len(images)
    return count


if __name__ == "__main__":
    main()

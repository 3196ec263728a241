"""New files from templates that work without changes."""

import importlib.util
import keyword
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ema_lab.ablation.ablation import load_ablation
from ema_lab.errors import SpecError, UnknownNameError
from ema_lab.registry.registry import unknown_name
from ema_lab.specs.definition import definitions
from ema_lab.workflow.define.detector_template import DETECTOR_TEMPLATE


@dataclass(frozen=True)
class Template:
    """Template of a file. In `text` and `use`, {name} and {title} (MyGate for my_gate) are filled in.

    Attributes:
        text: Content of the file.
        use: Command or key that uses the file.
        example: A valid name.
        folder: Folder of YAML files of the kind; empty for code.
    """

    text: str
    use: str
    example: str
    folder: str = ""

    def use_of(self, name: str) -> str:
        """Return the command or key that uses the file of a name, and the command that checks code."""
        use = self.use.format(name=name, title=title_of(name))
        target = re.search(r"'(\w+:\w+)'", use)
        return f"{use}  (check it: ema-lab check {target[1]})" if target else use


ABLATION_TEMPLATE = """\
# yaml-language-server: $schema=../schemas/ablation.schema.json  (write it: ema-lab schema --out schemas)
name: {name}
description: Purpose of the table, in one sentence.
base:
  model: {{backbone: resnet20, placement: {{after: block_end}}}}
  data: {{name: digits}}
  recipe: {{use: digits-quick}}
seeds: [0, 1, 2]
baseline: none
variants:            # rows by name; dotted keys change the base
  none: {{model.attention: none}}
  se: {{model.attention: {{name: se, reduction: 16}}}}
  # groups must divide the channels of every place, here 16, 32 and 64 (its default is 32)
  ema: {{model.attention: {{name: ema}}, axes: {{model.attention.groups: [4, 8]}}}}
"""

RECIPE_TEMPLATE = """\
# yaml-language-server: $schema=../../schemas/recipe.schema.json  (write it: ema-lab schema --out schemas)
name: {name}
description: Purpose of the recipe, in one sentence.
recipe:              # what is left out has its default; the schema says what each key means
  epochs: 30
  batch_size: 64
  optimizer: {{name: sgd, lr: 0.05, momentum: 0.9, weight_decay: 5.0e-4, nesterov: true}}
  schedule: {{name: cosine, warmup_epochs: 1}}
  augment: {{crop_padding: 1, flip: false}}
  # label_smoothing: 0.1
  # precision: bf16          # with evaluation_precision: fp32
  # protocol: best-val       # needs data.val_images
"""

REPORT_TEMPLATE = """\
# yaml-language-server: $schema=../schemas/report.schema.json  (write it: ema-lab schema --out schemas)
name: {name}
title: Title of the table
ablation: {ablation}
columns: [{columns}]         # ema-lab show columns
# names: {{none: No attention}}     # other names of rows in the table
# only: {{variant: [none, se]}}     # fewer rows; tests still count all that the ablation compares
figures:                     # ema-lab show figures
  - {{kind: tradeoff, name: tradeoff, cost: macs}}
  - {{kind: curves, name: curves, column: train_loss}}{forest}
"""

PUBLISHED_TEMPLATE = """\
# yaml-language-server: $schema=../../schemas/published.schema.json  (write it: ema-lab schema --out schemas)
name: {name}
title: The paper's title
# arxiv: "2305.13563"
year: 2026
source: Where the numbers are read, such as "Table 2 of the paper"
caveats:
  one_run: Caveat of the rows that name this key.
tables:
  cifar100:
    title: CIFAR-100
    setting: 32 x 32, 200 epochs
    classes: 100
    image_size: 32
    base: {{backbone: resnet20, placement: {{after: block_end}}}}
    baseline: ResNet-20
    convention: {{macs: macs_matmul, flops_per_mac: 1}}
    rows:              # made-up numbers: write yours as printed; dotted keys of `model` change the base
      ResNet-20:
        claims: {{parameters: 0.28M, flops: 41M, top1: 68.30}}
      ResNet-20+SE:
        claims: {{parameters: 0.28M, flops: 41M, top1: 69.10}}
        model: {{attention: {{name: se, reduction: 16}}}}
        # ablation: my-study     # with a row of the same model: its runs are compared with top1
        # variant: se
        caveats: [one_run]
"""

SWEEP_TEMPLATE = """\
# yaml-language-server: $schema=../schemas/sweep.schema.json  (write it: ema-lab schema --out schemas)
name: {name}
description: Purpose of the search, in one sentence.
method: bayes        # grid, random or bayes
metric: {{name: val_top1, goal: maximize}}
run_cap: 20          # trials
early_terminate: {{type: hyperband, min_iter: 2, eta: 2}}
parameters:          # dotted keys of the run spec; base and seeds are ema-lab's own
  base: {{value: "quickstart/ema [groups=4]"}}      # ABLATION/VARIANT
  seeds: {{value: [0]}}
  data.val_images: {{value: 300}}                   # what chooses; test images never do
  model.attention.groups: {{values: [2, 4, 8]}}
  recipe.optimizer.lr: {{distribution: log_uniform_values, min: 0.01, max: 0.5}}
command: [ema-lab, trial, "${{args_json}}"]
"""

ATTENTION_TEMPLATE = '''\
"""{title}: purpose in one line (reference).

Shape letters: B batch, C channels, H rows, W columns.
"""

from torch import Tensor, nn


def channel_gate(x_BCHW: Tensor, mix: nn.Module) -> Tensor:
    """Return a gate in (0, 1) for every channel, from the channel means."""
    gate_BC: Tensor = mix(x_BCHW.mean((2, 3))).sigmoid()
    return gate_BC[:, :, None, None]


class {title}(nn.Module):
    """Gates channels. Input and output: (batch, channels, H, W).

    Args:
        channels: Channels of the input.
        bias: Whether the linear layer has a bias.
    """

    def __init__(self, channels: int, *, bias: bool = True) -> None:
        super().__init__()
        self.mix = nn.Linear(channels, channels, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return x * channel_gate(x, self.mix)
'''

BACKBONE_TEMPLATE = '''\
"""{title}: description in one line (reference).

A place for attention is any submodule that returns (B, C, H, W), by its name: "blocks.*.norm2".
"""

from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut. (B, C, H, W) -> (B, width, H/stride, W/stride)."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.relu2 = nn.ReLU()
        same = stride == 1 and channels == width
        self.shortcut = nn.Identity() if same else nn.Conv2d(channels, width, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.norm2(self.conv2(self.relu1(self.norm1(self.conv1(x)))))
        return self.relu2(inner + self.shortcut(x))


class {title}(nn.Module):
    """(B, channels, H, W) -> (B, classes)."""

    def __init__(self, classes: int, channels: int, width: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.blocks = nn.Sequential(
            ResidualBlock(width, width, 1),
            ResidualBlock(width, 2 * width, 2),
            ResidualBlock(2 * width, 4 * width, 2),
        )
        self.head = nn.Linear(4 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


def {name}(classes: int, channels: int, *, width: int = 16) -> nn.Module:
    """A small residual network of three blocks.

    Args:
        classes: Number of classes.
        channels: Channels of an image.
        width: Channels of the first block; the others have two and four times as many.
    """
    return {title}(classes, channels, width)
'''

DATASET_TEMPLATE = '''\
"""{title}: description of the images in one line (source, licence)."""

from pathlib import Path

import torch

from ema_lab.data.images import ImageSplits, LabelledImages

# What is known without loading the images; it is read, not run, so it must be a literal. An option of
# {name}() that is named as a fact replaces it. mean and std, one per channel, are of the training pixels
# scaled to [0, 1].
FACTS = {{
    "classes": 4,
    "channels": 1,
    "image_size": 16,
    "train_images": 400,
    "test_images": 100,
    "mean": [0.52],
    "std": [0.31],
}}


def stripes(count: int, seed: int, noise: float) -> LabelledImages:
    """Return made-up images of stripes in four directions. Read your own images instead.

    Files in one folder per class: ema_lab.data.image_folder.image_folder_splits. Any other files:
    ema_lab.data.pictures.read_picture, which handles 16 bits, transparency, CMYK and damage.
    """
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 4
    rows, columns = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    waves = torch.stack([rows, columns, rows + columns, rows - columns]).sin()
    pixels = 0.5 + 0.4 * waves[labels] + noise * torch.randn(count, 16, 16, generator=generator)
    images = (255 * pixels.clamp(0, 1)).to(torch.uint8)
    return LabelledImages(images.unsqueeze(1), labels)


def {name}(root: Path, *, noise: float = 0.2) -> ImageSplits:
    """Stripes in four directions.

    Args:
        root: Folder of the data sets (--data): read below root / "{name}" there.
        noise: Standard deviation of the noise.

    Returns the training and the test images as uint8 (N, C, H, W) with labels as int64 (N,).
    """
    return ImageSplits(stripes(400, 0, noise), stripes(100, 1, noise))
'''

TEMPLATES: Mapping[str, Template] = {
    "ablation": Template(ABLATION_TEMPLATE, "ema-lab plan ablations/{name}.yaml", "my-study", "ablations"),
    "attention": Template(ATTENTION_TEMPLATE, "model.attention: {{name: '{name}:{title}'}}", "my_gate"),
    "backbone": Template(
        BACKBONE_TEMPLATE,
        "model: {{backbone: '{name}:{name}', placement: {{after: 'blocks.*.norm2'}}}}",
        "my_net",
    ),
    "detector": Template(
        DETECTOR_TEMPLATE,
        "model: {{detector: '{name}:{name}', backbone: resnet18, placement: {{after: block_end}}}}",
        "my_head",
    ),
    "dataset": Template(DATASET_TEMPLATE, "data: {{name: '{name}:{name}'}}", "my_data"),
    "sweep": Template(SWEEP_TEMPLATE, "ema-lab sweep sweeps/{name}.yaml", "my-search", "sweeps"),
    "recipe": Template(RECIPE_TEMPLATE, "recipe: {{use: {name}}}", "my-recipe", "ablations/recipes"),
    "report": Template(
        REPORT_TEMPLATE, "ema-lab report reports/{name}.yaml --out out/{name}", "my-report", "reports"
    ),
    "published": Template(
        PUBLISHED_TEMPLATE,
        "ema-lab audit reports/published/{name}.yaml",
        "paper2026",
        "reports/published",
    ),
}


def _refuse_hiding(kind: str, name: str, path: Path) -> None:
    """Refuse a file that would hide a bundled definition, or a module that Python can import."""
    if path.suffix == ".yaml":
        if name in definitions(str(path.parent)):
            rule = f"{path} would hide it everywhere in this folder; choose another name"
            raise SpecError(f"{name} is a bundled {kind}: {rule}")
    elif name in sys.stdlib_module_names or _is_another_module(name, path):
        raise SpecError(f"{path} would hide the Python module {name}; choose another name")


def _report_fields(name: str) -> dict[str, str]:
    """Return ablation, columns and figures of a report: of the ablation of that name, else of quickstart."""
    ablation = load_ablation(name if name in definitions("ablations") else "quickstart")
    compared = ["delta"] if ablation.baseline else []
    forest = "\n  - {kind: forest, name: differences}" if compared else ""
    columns = [ablation.task.primary, *compared, "parameters", "macs"]
    return {"ablation": ablation.name, "columns": ", ".join(columns), "forest": forest}


@dataclass(frozen=True)
class NewFile:
    """File that was written.

    Attributes:
        path: Its path.
        use: The command or key that uses it.
        remark: What to know about its content, if anything.
    """

    path: Path
    use: str
    remark: str = ""


def new_file(kind: str, name: str) -> NewFile:
    """Write a file to start from: NAME.yaml in the folder of its kind, or NAME.py.

    Raises:
        UnknownNameError: If there is no such kind.
        SpecError: If the name is not valid, or the file exists.
    """
    if kind not in TEMPLATES:
        raise UnknownNameError(unknown_name("kind of file", kind, TEMPLATES))

    def text() -> str:
        fields = {"name": name, "title": title_of(name)} | (_report_fields(name) if kind == "report" else {})
        return TEMPLATES[kind].text.format(**fields)

    return write_new(kind, name, text)


def title_of(name: str) -> str:
    """Return the name of a class for a name of a file: MyGate for my_gate."""
    return "".join(part.capitalize() for part in name.split("_"))


def write_new(kind: str, name: str, text: Callable[[], str]) -> NewFile:
    """Write a new file of a kind, once its name is checked.

    Raises:
        SpecError: If the name is not valid, or the file exists.
    """
    template = TEMPLATES[kind]
    pattern = r"[A-Za-z][A-Za-z0-9_-]*" if template.folder else r"_*[a-z][a-z0-9_]*"
    if not re.fullmatch(pattern, name) or (not template.folder and keyword.iskeyword(name)):
        article = "an" if kind[0] == "a" else "a"
        raise SpecError(
            f"{name!r} is no name for {article} {kind} file; something like {template.example!r} is"
        )
    path = Path(template.folder) / f"{name}.yaml" if template.folder else Path(f"{name}.py")
    if path.exists():
        raise SpecError(f"{path} exists already; nothing was written")
    _refuse_hiding(kind, name, path)
    content = text()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return NewFile(path, template.use_of(name))


def _is_another_module(name: str, path: Path) -> bool:
    """Return whether Python finds a module of that name in another file than `path`."""
    found = importlib.util.find_spec(name)
    return found is not None and found.origin != str(path.resolve())

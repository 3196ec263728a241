"""Help texts of `ema-lab new KIND --help`: the content of a new file of each kind."""

from collections.abc import Mapping

HELP: Mapping[str, str] = {
    "ablation": (
        "Write ablations/NAME.yaml: the rows of a table (variants and their axes), the base that they "
        "change, and the seeds. As written it trains none, SE and EMA on small digits."
    ),
    "attention": (
        "Write NAME.py with an attention module that keeps (B, C, H, W). Its keyword-only parameters "
        "are its options in YAML. `ema-lab check` holds what a module must keep."
    ),
    "backbone": (
        "Write NAME.py with a network for images of any number of classes and channels. Attention "
        "goes behind its submodules by their names."
    ),
    "detector": (
        "Write NAME.py with the heads of a detector, which go on the stages of any backbone and are "
        "trained by YOLOv5's loss."
    ),
    "dataset": (
        "Write NAME.py with a data set: its facts, a literal that is read without loading images, and "
        "a function that returns training and test images. --from FOLDER measures a folder of images "
        "once and writes a data set of them."
    ),
    "sweep": (
        "Write sweeps/NAME.yaml in W&B's format: the row of an ablation that is searched, the hyper- "
        "parameters with their ranges, and the validation metric that chooses."
    ),
    "recipe": (
        "Write ablations/recipes/NAME.yaml: how models are trained, as an ablation names it by `use`."
    ),
    "report": (
        "Write reports/NAME.yaml: columns, names of rows and figures of a table. An ablation of the "
        "same name is taken, if there is one; without a report file an ablation has the usual "
        "columns."
    ),
    "published": (
        "Write reports/published/NAME.yaml: a paper's numbers as printed, to be compared with "
        "computed parameters and multiply-adds and with your runs."
    ),
}

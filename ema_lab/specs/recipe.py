"""Schema of a training recipe. Defaults never change, so that run ids stay valid."""

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import Field, Strict, model_validator

from ema_lab.specs.augment import AugmentSpec
from ema_lab.specs.dataset import DatasetFacts, dataset_facts
from ema_lab.specs.detection import DetectionSpec
from ema_lab.specs.strict import (
    Finite,
    Fraction,
    Natural,
    NonNegative,
    Positive,
    PositiveInt,
    Spec,
    canonical_json,
    invalid,
)

Protocol = Literal["last", "best-val", "best-test"]


class SgdSpec(Spec):
    """Stochastic gradient descent. Weight decay applies to every parameter.

    Attributes:
        name: The constant `sgd`.
        lr: Peak learning rate.
        momentum: Share of the last step that is kept.
        weight_decay: Factor of the weights that is added to their gradients.
        nesterov: Whether the gradient is taken ahead of the momentum's step.
    """

    name: Literal["sgd"]
    lr: Positive
    momentum: Fraction = 0.0
    weight_decay: NonNegative = 0.0
    nesterov: bool = False

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> "SgdSpec":
        if self.nesterov and not self.momentum:
            raise invalid("sgd", "nesterov needs a momentum above 0", "nesterov")
        return self


class AdamWSpec(Spec):
    """AdamW (arXiv:1711.05101).

    Attributes:
        name: The constant `adamw`.
        lr: Peak learning rate.
        weight_decay: Factor of the weights that is subtracted in each step, times the rate.
        beta1: Decay of the gradients' mean.
        beta2: Decay of the squared gradients' mean.
    """

    name: Literal["adamw"]
    lr: Positive
    weight_decay: NonNegative = 0.01
    beta1: Fraction = 0.9
    beta2: Fraction = 0.999


class WarmupSpec(Spec):
    """Warm-up of the learning rate, and how often the rate changes.

    Attributes:
        warmup_epochs: Epochs in which the rate rises linearly to its peak.
        warmup_from: Rate at which the warm-up begins; it then reaches the peak at the first step after the
            warm-up. By default the warm-up rises from 0 and reaches the peak at its own last step.
        per: Whether the rate changes with every `batch`, or only at the start of every `epoch`.
    """

    warmup_epochs: Natural = 0
    warmup_from: NonNegative | None = None
    per: Literal["batch", "epoch"] = "batch"

    @model_validator(mode="after")
    def _warmup_from_of_a_warmup(self) -> Self:
        if self.warmup_from is not None and not self.warmup_epochs:
            raise invalid("schedule", "changes nothing without warmup_epochs", "warmup_from")
        if self.per == "epoch" and not self.warmup_epochs and not isinstance(self, CosineSpec):
            rule = "changes nothing without warmup_epochs: this rate changes only between epochs"
            raise invalid("schedule", rule, "per")
        return self


class ConstantSpec(WarmupSpec):
    """Constant learning rate after an optional linear warm-up.

    Attributes:
        name: The constant `constant`.
    """

    name: Literal["constant"]


class MultistepSpec(WarmupSpec):
    """Learning rate that is multiplied by `gamma` at the start of each milestone epoch.

    Attributes:
        name: The constant `multistep`.
        milestones: Epochs at whose start the rate falls.
        gamma: Factor of the rate at each milestone.
    """

    name: Literal["multistep"]
    milestones: Annotated[tuple[PositiveInt, ...], Strict(False), Field(min_length=1)]
    gamma: Positive = 0.1


class CosineSpec(WarmupSpec):
    """Learning rate that falls along half a cosine to `min_lr` after an optional linear warm-up.

    Attributes:
        name: The constant `cosine`.
        min_lr: Learning rate at the end.
        span: Epochs that the half cosine covers: the `rest` after the warm-up, or `all`, whose beginning the
            warm-up then replaces, as in timm.
    """

    name: Literal["cosine"]
    min_lr: NonNegative = 0.0
    span: Literal["rest", "all"] = "rest"

    @model_validator(mode="after")
    def _span_around_a_warmup(self) -> Self:
        if self.span == "all" and not self.warmup_epochs:
            raise invalid("schedule", "changes nothing without warmup_epochs", "span")
        return self


class YoloSchedule(Spec):
    """YOLOv5 v6.0's schedule: warm-up batch by batch, then one rate per epoch down to `final` of the peak.

    In warm-up biases start at `warmup_bias_lr` and other rates at 0, momentum (SGD's) at `warmup_momentum`,
    and accumulation grows from 1. Two accidents of the reference are switches: warm-up lasts at least
    `least_warmup` batches (1000 there), and with `lag` later epochs have the rate of the epoch before.

    Attributes:
        name: The constant `yolov5`.
        final: Last rate as a share of the peak.
        curve: Form of the fall: `cosine` or `linear`.
        warmup_epochs: Epochs of the warm-up, which may be a fraction.
        warmup_momentum: Momentum at the start of the warm-up.
        warmup_bias_lr: Rate of biases at the start of the warm-up.
        least_warmup: Least number of batches of the warm-up.
        lag: Whether each later epoch has the rate of the epoch before.
    """

    name: Literal["yolov5"]
    final: Annotated[float, Field(gt=0, le=1)] = 0.1
    curve: Literal["cosine", "linear"] = "cosine"
    warmup_epochs: NonNegative = 3.0
    warmup_momentum: Fraction = 0.8
    warmup_bias_lr: NonNegative = 0.1
    least_warmup: Natural = 0
    lag: bool = False


class AverageSpec(Spec):
    """Average of the weights over optimizer steps. Evaluation uses the average instead of the weights.

    At step n the average keeps decay * (1 - exp(-n / ramp)) of itself. Running statistics are averaged too.

    Attributes:
        decay: Share of the average that a late step keeps.
        ramp: Number of steps over which that share rises from 0; with 0 it is the same at every step, as in
            timm.
    """

    decay: Fraction = 0.9999
    ramp: NonNegative = 2000.0


class ChannelStatistics(Spec):
    """Mean and standard deviation per channel of pixels scaled to [0, 1].

    Attributes:
        mean: Mean of each channel.
        std: Standard deviation of each channel.
    """

    mean: Annotated[tuple[Finite, ...], Strict(False)]
    std: Annotated[tuple[Positive, ...], Strict(False)]


Optimizer = Annotated[SgdSpec | AdamWSpec, Field(discriminator="name")]
Schedule = Annotated[ConstantSpec | MultistepSpec | CosineSpec | YoloSchedule, Field(discriminator="name")]


class RecipeSpec(Spec):
    """Training recipe: optimisation, augmentation, precision and the reported epoch.

    Attributes:
        epochs: Number of passes over the training images.
        batch_size: Global batch size.
        optimizer: Optimizer with its learning rate.
        schedule: Learning rate over the epochs; constant by default.
        label_smoothing: Share of the target that is spread evenly over all classes.
        augment: Random changes of training images.
        normalise: Statistics that normalise images: the data set's own, CIFAR-10's, or explicit values.
        precision: Precision of training.
        evaluation_precision: `training` evaluates in the training precision. `fp32` evaluates a bf16 run in
            fp32, so that rounding creates no ties between predictions.
        memory_format: Order of values in memory. `channels_last` is often faster in convolutions, and rounds
            in another order: other last digits.
        compile: Mode of torch.compile for training; evaluation is never compiled. `default` fuses operations,
            `reduce-overhead` also captures CUDA graphs, `max-autotune` also chooses kernels by timing them.
            The compiled model rounds in another order: other last digits.
        recompute: Keep only the inputs of blocks for the backward pass, and compute what is inside them again
            (activation checkpointing): less memory, more time, the same bits.
        protocol: Reported epoch. `last` is the last one, `best-val` the best on the validation split.
            `best-test` is the best on the test split, as in many papers, and is marked in tables.
        watch: Split that is evaluated after every epoch, if the run has it: `val`, or `test` to see the test
            metrics of every epoch. The test metrics choose nothing, and tables say that the test split was
            watched.
        decays: Parameters with weight decay: `all`, `matrices` (neither norms nor biases), or the groups of
            `yolov5`, which leave parameters called neither weight nor bias untrained.
        clip_norm: Largest norm of all gradients together; larger ones are scaled down.
        nominal_batch: Number of images whose gradients add up before each optimizer step.
        leftover: What happens at the end of an epoch to gradients of fewer images: `step` or `drop`.
        sync_batch_norm: Whether batch normalisation takes its statistics from the global batch where several
            devices share it (`--devices`). By default each device normalises by its own images.
        reduction: `mean` over images, or `sum`, which multiplies the loss by the number of images.
        average: Average of the weights, which is evaluated instead of them.
        dropout: Rate of the backbone's dropout layers. By default each has its own.
        drop_path: Stochastic depth (arXiv:1603.09382): the probability that an image skips the residual
            branch of the last block. It rises linearly from 0 at the first. By default that of the backbone.
        lr_factors: Factors of the learning rate by pattern, such as `{"layer*": 0.1}`. A pattern is that of
            `model.frozen`; attention inside a submodule keeps its rate unless a pattern names it.
        detection: Settings of detectors alone.
    """

    epochs: PositiveInt
    batch_size: PositiveInt
    optimizer: Optimizer
    schedule: Schedule = ConstantSpec(name="constant")
    label_smoothing: Fraction = 0.0
    augment: AugmentSpec = AugmentSpec()
    normalise: Literal["dataset", "cifar10"] | ChannelStatistics = "dataset"
    precision: Literal["fp32", "bf16"] = "fp32"
    evaluation_precision: Literal["training", "fp32"] = "training"
    memory_format: Literal["contiguous", "channels_last"] = "contiguous"
    compile: Literal["off", "default", "reduce-overhead", "max-autotune"] = "off"
    recompute: bool = False
    protocol: Protocol = "last"
    watch: Literal["val", "test"] = "val"
    decays: Literal["all", "matrices", "yolov5"] = "all"
    clip_norm: Positive | None = None
    nominal_batch: PositiveInt | None = None
    leftover: Literal["step", "drop"] = "step"
    sync_batch_norm: bool = False
    reduction: Literal["mean", "sum"] = "mean"
    average: AverageSpec | None = None
    dropout: Fraction | None = None
    drop_path: Fraction | None = None
    lr_factors: Mapping[Annotated[str, Field(min_length=1)], Positive] = {}
    detection: DetectionSpec = DetectionSpec()

    @model_validator(mode="after")
    def _warmup_ends(self) -> "RecipeSpec":
        if self.schedule.warmup_epochs >= self.epochs and self.epochs > 1:
            message = (
                f"warm-up must end before the last epoch, got {self.schedule.warmup_epochs} of {self.epochs}"
            )
            raise invalid("recipe", message, "schedule", "warmup_epochs")
        first = getattr(self.schedule, "warmup_from", None)
        if first is not None and first >= self.optimizer.lr:
            rule = f"must be below the peak rate {self.optimizer.lr:g}, got {first:g}"
            raise invalid("recipe", rule, "schedule", "warmup_from")
        return self

    @model_validator(mode="after")
    def _resolution_fits(self) -> "RecipeSpec":
        growing = self.augment.resolution
        if growing is None:
            return self
        place = ("augment", "resolution")
        if growing.full_from >= self.epochs > 1:
            rule = f"must be before the last epoch, got {growing.full_from} of {self.epochs}"
            raise invalid("recipe", rule, *place, "full_from")
        if self.compile != "off":
            rule = "changes the size of images, for which torch would compile anew: set compile: off"
            raise invalid("recipe", rule, *place)
        return self

    @model_validator(mode="after")
    def _watched_test_data_choose_nothing(self) -> "RecipeSpec":
        if self.watch == "test" and self.protocol != "last":
            why = {
                "best-val": "chooses by the validation split",
                "best-test": "watches the test split already",
            }
            raise invalid(
                "recipe", f"test needs protocol: last; {self.protocol} {why[self.protocol]}", "watch"
            )
        return self

    @model_validator(mode="after")
    def _leftover_of_something(self) -> "RecipeSpec":
        if self.leftover == "drop" and self.nominal_batch is None:
            raise invalid("recipe", "changes nothing without nominal_batch", "leftover")
        return self

    @model_validator(mode="after")
    def _captured_gradients_do_not_add_up(self) -> "RecipeSpec":
        if self.compile not in ("off", "default") and self.nominal_batch is not None:
            rule = "captures CUDA graphs, whose gradients cannot add up (nominal_batch): use default"
            raise invalid("recipe", f"{self.compile} {rule}", "compile")
        return self

    @model_validator(mode="after")
    def _compilers_choose_what_to_recompute(self) -> "RecipeSpec":
        if self.recompute and self.compile != "off":
            rule = "changes the blocks that torch.compile compiles: leave one of them out"
            raise invalid("recipe", rule, "recompute")
        return self

    @model_validator(mode="after")
    def _one_name_for_fp32(self) -> "RecipeSpec":
        if self.precision == "fp32":  # both values evaluate in fp32, so they must share a run id
            object.__setattr__(self, "evaluation_precision", "training")
        return self

    @property
    def evaluated_in(self) -> Literal["fp32", "bf16"]:
        """Precision of evaluation."""
        return self.precision if self.evaluation_precision == "training" else "fp32"

    def statistics(self, facts: DatasetFacts) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return the mean and standard deviation per channel that normalise images."""
        if isinstance(self.normalise, ChannelStatistics):
            return self.normalise.mean, self.normalise.std
        chosen = facts if self.normalise == "dataset" else dataset_facts(self.normalise, {})
        return chosen.mean, chosen.std

    @cached_property
    def canonical(self) -> str:
        """Canonical JSON of the resolved spec."""
        return canonical_json(resolved(self))


def resolved(spec: Spec) -> dict[str, Any]:
    """Return the keys that differ from their default, plus the tag `name` of a union."""
    values: dict[str, Any] = {}
    for key, field in type(spec).model_fields.items():
        value = getattr(spec, key)
        if value == field.default and key != "name":
            continue
        values[key] = resolved(value) if isinstance(value, Spec) else value
    return values

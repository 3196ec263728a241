"""The form of a file of published numbers: what a paper's tables claim, of which model, from where."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, PlainValidator, Strict, WithJsonSchema, model_validator

from ema_lab.errors import SpecError
from ema_lab.registry.registry import unknown_name
from ema_lab.specs.change import apply_change
from ema_lab.specs.numbers import Positive, PositiveInt
from ema_lab.specs.published_number import Digits, Printed
from ema_lab.specs.run import ModelSpec, RunSpec
from ema_lab.specs.strict import Apart, Name, Spec, invalid, problem
from ema_lab.specs.task import DEFAULT_TASK, task_description

Text = Annotated[str, Field(min_length=1)]
Texts = Annotated[tuple[Text, ...], Strict(False)]
ParameterCount = Literal[
    "parameters", "parameters_without_norm", "parameters_without_own_norm", "parameters_fused"
]
UNTRAINED = ("map50", "map50_95")  # published metrics that no task here computes
MacCount = Literal["macs_matmul", "macs", "macs_thop"]


def _printed(value: object) -> Printed:
    try:
        return Printed(value if isinstance(value, str) else repr(value))
    except SpecError as error:
        raise problem(str(error)) from None


PrintedNumber = Annotated[Printed, PlainValidator(_printed), WithJsonSchema({"type": ["string", "number"]})]


class ClaimsSpec(Spec):
    """The numbers of a row, with the digits that are printed.

    `macs` and `flops` take the table's unit as a suffix: 300M. Every other key is a metric of the table's
    task, in the metric's unit.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, PrintedNumber]

    parameters: PrintedNumber | None = None
    macs: PrintedNumber | None = None
    flops: PrintedNumber | None = None

    @model_validator(mode="after")
    def _at_least_one(self) -> Self:
        if not self.given:
            counts = ", ".join(type(self).model_fields)
            raise invalid("claims", f"must have one of {counts}, or a metric of the table's task")
        return self

    @property
    def given(self) -> dict[str, Printed]:
        """The numbers that the row has, by quantity."""
        counts = {key: getattr(self, key) for key in type(self).model_fields}
        return {key: value for key, value in {**counts, **self.metrics}.items() if value is not None}

    @property
    def metrics(self) -> Mapping[str, Printed]:
        """The metrics that the row has, by name."""
        return self.model_extra or {}

    @property
    def operations(self) -> bool:
        """Whether the row has a number of multiply-adds or FLOPs."""
        return self.macs is not None or self.flops is not None


class ConventionSpec(Spec):
    """How a table counts, where it does not say so: what is assumed first.

    `parameters`: all, without those of norms, without those of the attention's own norms, or with each
    batch norm folded into the convolution before it. `macs`: convolutions, linear layers and matrix
    products alone (`macs_matmul`), with norms as fvcore counts them, or as thop 0.0.31 does.
    `flops_per_mac`: 1 where "FLOPs" are multiply-adds, as in most papers; 2 where each is two.
    """

    parameters: ParameterCount = "parameters"
    macs: MacCount = "macs_matmul"
    flops_per_mac: Literal[1, 2] = 1
    digits: Digits = "rounded"


class RowSpec(Spec):
    """One row of a table.

    Attributes:
        claims: The numbers.
        model: Dotted keys that change the table's base; null where the model cannot be built here.
        setting: How it was trained, where that is not the table's setting.
        source: Where the numbers are from, where that is not the table's source.
        baseline: The row that it is compared with, where that is not the table's.
        ablation: The ablation that trains it, where that is not the table's.
        variant: The ablation's row of this model; without one the row is never compared with runs.
        caveats: Keys of the file's caveats.
    """

    claims: ClaimsSpec
    model: Mapping[str, Any] | None = {}
    setting: str = ""
    source: str = ""
    baseline: str | None = None
    ablation: str | None = None
    variant: str | None = None
    caveats: Texts = ()


class TableSpec(Spec):
    """A table of the paper: what its rows share, and the rows by name.

    `task` names the task of the metrics. `base` is the model that the rows change, `relevant` the difference
    of a metric that runs must be able to detect before they can confirm a claim. `counted_at`: the image
    size at which operations are counted, to be scaled to `image_size` by the number of pixels, where the
    paper's tool did so.
    """

    title: Text
    setting: Text
    source: str = ""
    task: Text = DEFAULT_TASK
    classes: PositiveInt
    image_size: PositiveInt
    counted_at: PositiveInt | None = None
    channels: PositiveInt = 3
    base: Mapping[str, Any] = {}
    baseline: str | None = None
    ablation: str | None = None
    convention: ConventionSpec = ConventionSpec()
    relevant: Positive = 0.5
    caveats: Texts = ()
    rows: Annotated[dict[Name, RowSpec], Field(min_length=1), Apart]

    @model_validator(mode="after")
    def _metrics_are_the_task_s(self) -> Self:
        try:
            known = (*ClaimsSpec.model_fields, *task_description(self.task).metrics, *UNTRAINED)
        except SpecError as error:
            raise invalid("table", str(error), "task") from None
        for name, row in self.rows.items():
            for key in row.claims.metrics:
                if key not in known:
                    raise invalid("table", unknown_name("key", key, known), "rows", name, "claims", key)
        return self

    def model(self, row: RowSpec) -> ModelSpec | None:
        """Return a row's model, or None where the file says that there is none to build."""
        tree = self.model_tree(row)
        return None if tree is None else ModelSpec.model_validate(tree)

    def model_tree(self, row: RowSpec) -> Mapping[str, Any] | None:
        """Return the base with the row's changes, not checked yet."""
        if row.model is None:
            return None
        tree: Mapping[str, Any] = self.base
        for key, value in row.model.items():
            tree = apply_change(tree, tuple(key.split(".")), value)
        return tree

    def run(self, row: RowSpec) -> RunSpec | None:
        """Return a run of a row's model on made-up images of the table's form: to count, not to train."""
        model = self.model(row)
        if model is None:
            return None
        size = self.counted_at or self.image_size
        form = {"classes": self.classes, "channels": self.channels, "image_size": size}
        recipe = {"epochs": 1, "batch_size": 1, "optimizer": {"name": "sgd", "lr": 0.1}}
        data = {"name": "synthetic", **form}
        return RunSpec.model_validate({"model": model, "data": data, "recipe": recipe, "seed": 0})

    def scaled(self, operations: int) -> int:
        """Scale operations that were counted at `counted_at` to the table's image size."""
        return operations * self.image_size**2 // (self.counted_at or self.image_size) ** 2


class LeftOutSpec(Spec):
    """Numbers of the source that the file does not hold, and why."""

    what: Text
    reason: Text


class PublishedSpec(Spec):
    """The published numbers of one paper, by table and row."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    title: Text
    arxiv: Annotated[str | None, Field(pattern=r"^([0-9]{4}\.[0-9]{4,5}|[a-z.-]+/[0-9]{7})$")] = None
    year: Annotated[int, Field(ge=1900, le=2100)]
    source: Text
    caveats: dict[Text, Text] = {}
    left_out: Annotated[tuple[LeftOutSpec, ...], Strict(False)] = ()
    tables: Annotated[dict[Name, TableSpec], Field(min_length=1), Apart]

    def rows(self) -> Iterator[tuple[str, TableSpec, str, RowSpec]]:
        """Yield each row with its name and its table."""
        for key, table in self.tables.items():
            for name, row in table.rows.items():
                yield key, table, name, row

"""Schema of a file of published numbers: the claims of a paper's tables, their models and sources."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, PlainValidator, Strict, WithJsonSchema, model_validator

from ema_lab.errors import SpecError
from ema_lab.registry.registry import unknown_name
from ema_lab.specs.change import apply_change
from ema_lab.specs.published_number import Digits, PublishedNumber, Units
from ema_lab.specs.run import ModelSpec, RunSpec
from ema_lab.specs.strict import Distinct, Name, Positive, PositiveInt, Spec, invalid, problem
from ema_lab.specs.task import DEFAULT_TASK, task_description

Text = Annotated[str, Field(min_length=1)]
Texts = Annotated[tuple[Text, ...], Strict(False)]
ParameterCount = Literal[
    "parameters", "parameters_without_norm", "parameters_without_own_norm", "parameters_fused"
]
MacCount = Literal["macs_matmul", "macs", "macs_thop"]


def _parse_number(value: object) -> PublishedNumber:
    try:
        return PublishedNumber(value if isinstance(value, str) else repr(value))
    except SpecError as error:
        raise problem(str(error)) from None


NumberField = Annotated[
    PublishedNumber, PlainValidator(_parse_number), WithJsonSchema({"type": ["string", "number"]})
]


class ClaimsSpec(Spec):
    """Published numbers of a row, with their printed digits.

    `macs` and `flops` carry their unit as a suffix, such as 300M. Every other key is a metric of the
    table's task, in the metric's unit.

    Attributes:
        parameters: Number of parameters, such as 0.28M.
        macs: Multiply-adds for one image, such as 300M.
        flops: Operations for one image as the paper prints them, such as 4.1G.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, NumberField]

    parameters: NumberField | None = None
    macs: NumberField | None = None
    flops: NumberField | None = None

    @model_validator(mode="after")
    def _at_least_one(self) -> Self:
        if not self.numbers:
            counts = ", ".join(type(self).model_fields)
            raise invalid("claims", f"must have one of {counts}, or a metric of the table's task")
        return self

    @property
    def numbers(self) -> dict[str, PublishedNumber]:
        """All published numbers of the row, by quantity."""
        counts = {key: getattr(self, key) for key in type(self).model_fields}
        return {key: value for key, value in {**counts, **self.metrics}.items() if value is not None}

    @property
    def metrics(self) -> Mapping[str, PublishedNumber]:
        """Published metrics of the row, by name."""
        return self.model_extra or {}

    @property
    def operations(self) -> bool:
        """Whether the row has MACs or FLOPs."""
        return self.macs is not None or self.flops is not None


class ConventionSpec(Spec):
    """Counting convention assumed first for a table whose paper states none.

    Attributes:
        parameters: All parameters, those outside norms, those outside the attention's own norms, or all
            after folding each batch norm into the convolution before it (`parameters_fused`).
        macs: Convolutions, linear layers and matrix products only (`macs_matmul`), with norms as fvcore
            counts them (`macs`), or as thop 0.0.31 counts them (`macs_thop`).
        flops_per_mac: 1 if the paper's "FLOPs" are multiply-adds, as in most papers. 2 otherwise.
        digits: How the paper shortens a number to its printed digits.
        units: Meaning of the suffixes k, M and G: 10^3, 10^6 and 10^9, or (`binary`) 2^10, 2^20 and 2^30.
    """

    parameters: ParameterCount = "parameters"
    macs: MacCount = "macs_matmul"
    flops_per_mac: Literal[1, 2] = 1
    digits: Digits = "rounded"
    units: Units = "decimal"


class RowSpec(Spec):
    """One row of a table. Empty fields fall back to the table's.

    Attributes:
        claims: Published numbers.
        model: Dotted keys that change the table's base model. null if ema-lab cannot build the model.
        setting: Training setting.
        source: Source of the numbers.
        baseline: Row that this row is compared with.
        ablation: Ablation that trains the model.
        variant: Row of the ablation that trains the model. Without it the claims are not compared with runs.
        seeds: Number of seeds whose mean the claimed metrics are.
        caveats: Keys of the file's caveats.
    """

    claims: ClaimsSpec
    model: Mapping[str, Any] | None = {}
    setting: str = ""
    source: str = ""
    baseline: str | None = None
    ablation: str | None = None
    variant: str | None = None
    seeds: PositiveInt | None = None
    caveats: Texts = ()


class TableSpec(Spec):
    """One table of the paper: its rows by name, and the fields that they share.

    Attributes:
        title: Title of the table.
        setting: Training setting.
        source: Source of the numbers; the file's by default.
        task: Task of the metrics.
        classes: Number of classes.
        image_size: Image side length in pixels.
        counted_at: Image side length at which the paper's tool counted operations, if the paper then scaled
            the count to `image_size` by the number of pixels.
        channels: Channels of an image.
        base: Model that the rows change.
        baseline: Row that the others are compared with.
        ablation: Ablation that trains the models.
        convention: Counting convention that is assumed first.
        relevant: Smallest relevant difference of a metric. Runs confirm a claim only if they show that it and
            their mean differ by less.
        seeds: Number of seeds whose mean the claimed metrics are. A claim is a measurement, too: most papers
            print single runs.
        caveats: Keys of the file's caveats.
        rows: Rows by name.
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
    seeds: PositiveInt = 1
    caveats: Texts = ()
    rows: Annotated[dict[Name, RowSpec], Field(min_length=1), Distinct]

    @model_validator(mode="after")
    def _metrics_are_the_task_s(self) -> Self:
        try:
            known = (*ClaimsSpec.model_fields, *task_description(self.task).metrics)
        except SpecError as error:
            raise invalid("table", str(error), "task") from None
        for name, row in self.rows.items():
            for key in row.claims.metrics:
                if key not in known:
                    raise invalid("table", unknown_name("key", key, known), "rows", name, "claims", key)
        return self

    def model(self, row: RowSpec) -> ModelSpec | None:
        """Return a row's model, or None if the file marks the model as not buildable."""
        tree = self.model_tree(row)
        return None if tree is None else ModelSpec.model_validate(tree)

    def model_tree(self, row: RowSpec) -> Mapping[str, Any] | None:
        """Return the base with the row's changes, unvalidated."""
        if row.model is None:
            return None
        tree: Mapping[str, Any] = self.base
        for key, value in row.model.items():
            tree = apply_change(tree, tuple(key.split(".")), value)
        return tree

    def run(self, row: RowSpec, image_size: int | None = None) -> RunSpec | None:
        """Return a run spec of a row's model on synthetic images, for counting costs and comparing models.

        `image_size` is that at which the paper's tool counted operations, by default.
        """
        model = self.model(row)
        if model is None:
            return None
        size = image_size or self.counted_at or self.image_size
        form = {"classes": self.classes, "channels": self.channels, "image_size": size}
        recipe = {"epochs": 1, "batch_size": 1, "optimizer": {"name": "sgd", "lr": 0.1}}
        data = {"name": "synthetic", **form}
        return RunSpec.model_validate({"model": model, "data": data, "recipe": recipe, "seed": 0})

    def scaled(self, operations: int) -> int:
        """Scale operations that were counted at `counted_at` to the table's image size."""
        return operations * self.image_size**2 // (self.counted_at or self.image_size) ** 2


class LeftOutSpec(Spec):
    """Numbers of the source that the file leaves out, with the reason.

    Attributes:
        what: The numbers.
        reason: Why they are left out.
    """

    what: Text
    reason: Text


class PublishedSpec(Spec):
    """Published numbers of one paper, by table and row.

    Attributes:
        name: Name of the file.
        title: Title of the paper.
        arxiv: Identifier at arXiv, in quotes.
        year: Year of publication.
        source: Where the numbers are read.
        caveats: Texts by key, which tables and rows name.
        left_out: Numbers of the source that the file leaves out.
        tables: Tables by name.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    title: Text
    arxiv: Annotated[str | None, Field(pattern=r"^([0-9]{4}\.[0-9]{4,5}|[a-z.-]+/[0-9]{7})$")] = None
    year: Annotated[int, Field(ge=1900, le=2100)]
    source: Text
    caveats: dict[Text, Text] = {}
    left_out: Annotated[tuple[LeftOutSpec, ...], Strict(False)] = ()
    tables: Annotated[dict[Name, TableSpec], Field(min_length=1), Distinct]

    def rows(self) -> Iterator[tuple[str, TableSpec, str, RowSpec]]:
        """Yield (table key, table, row name, row) of each row."""
        for key, table in self.tables.items():
            for name, row in table.rows.items():
                yield key, table, name, row

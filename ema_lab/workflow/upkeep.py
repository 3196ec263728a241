"""Upkeep of a store from Python: the same as the commands `ema-lab store ...`."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ema_lab.errors import SpecError, StoreError
from ema_lab.measured.names import RunNames, flat_names
from ema_lab.store.layout import RUN_ID
from ema_lab.store.store import RunStore
from ema_lab.store.upkeep.export import export
from ema_lab.store.upkeep.garbage import IMPORT_LOCK, Policy, Slimming, find_litter, remove
from ema_lab.store.upkeep.integrity import Finding, check_store, quarantine_damaged_runs
from ema_lab.store.upkeep.merge import Imported, Side, import_store, open_store
from ema_lab.store.upkeep.remeasure import Remeasured, remeasure
from ema_lab.workflow.events import Remark, RunChecked
from ema_lab.workflow.execution import Watch, ignore
from ema_lab.workflow.selection import Conditions, SeedChoice, selected


def required_store(path: Path | str) -> RunStore:
    """Return a store that must exist, the default one too.

    Raises:
        StoreError: If the store does not exist.
    """
    if not Path(path).exists():
        raise StoreError(f"there is no store {path}; name one with --store or EMA_LAB_STORE")
    return RunStore(path)


@dataclass(frozen=True)
class StoreCheck:
    """Problems of a store.

    `num_runs`: runs that were checked; `quarantined`: runs that were set aside; `renamed`: one line per
    damaged checkpoint that no command reads.
    """

    findings: Sequence[Finding]
    num_runs: int
    quarantined: Sequence[str] = ()
    renamed: Sequence[str] = ()

    @property
    def damaged(self) -> list[str]:
        """Runs with a damaged file."""
        return sorted({finding.run_id for finding in self.findings if finding.damaged})

    def rows(self) -> list[dict[str, Any]]:
        """Return one flat object per problem, as `ema-lab store check --json` prints them."""
        return [
            {
                "run_id": finding.run_id or None,
                "file": finding.file,
                "damaged": finding.damaged,
                "problem": finding.problem,
            }
            for finding in self.findings
        ]


def check_runs(
    store: RunStore, *, checkpoints: bool = True, quarantine: bool = False, watch: Watch = ignore
) -> StoreCheck:
    """Read every file of every run and find what is damaged.

    Args:
        store: The store.
        checkpoints: Read the checkpoints, too.
        quarantine: Supersede all files of damaged runs, which makes the runs pending. A checkpoint that no
            command reads is renamed instead.
        watch: Observer of `RunChecked`.
    """
    from ema_lab.tasks.classification.stored import problem_of

    load = _checkpoint_loader() if checkpoints else None
    findings = list(
        check_store(store, problem_of, load, lambda number, total: watch(RunChecked(number, total)))
    )
    checked = StoreCheck(findings, len(store.folder_names()))
    if not quarantine:
        return checked
    moved = quarantine_damaged_runs(store, checked.damaged, problem_of, load)
    return StoreCheck(findings, checked.num_runs, moved.superseded, moved.renamed)


def _checkpoint_loader() -> Callable[[Path], Mapping[str, Any]]:
    from ema_lab.training.slimming import load_checkpoint

    return load_checkpoint


@dataclass(frozen=True)
class Garbage:
    """Removable or removed items: number and size by kind."""

    num_items: Mapping[str, int]
    bytes_by_kind: Mapping[str, int]

    @property
    def num_bytes(self) -> int:
        """Size of all items."""
        return sum(self.bytes_by_kind.values())

    def rows(self) -> list[dict[str, Any]]:
        """Return one flat object per kind, as `ema-lab store gc --json` prints them."""
        return [
            {"kind": kind, "count": number, "bytes": self.bytes_by_kind[kind]}
            for kind, number in self.num_items.items()
        ]


def collect_garbage(
    store: RunStore,
    *,
    apply: bool = False,
    drop_weights: bool = False,
    superseded: bool = False,
    watch: Watch = ignore,
) -> Garbage:
    """Find what finished runs no longer need, half-written files and orphans, and remove it on demand.

    A run that a process works on keeps everything.

    Args:
        store: The store.
        apply: Remove the items.
        drop_weights: Include the weights of finished runs.
        superseded: Include quarantined files.
        watch: Observer; a checkpoint that cannot be read is a `Remark`.
    """
    from ema_lab.training.slimming import slim, surplus_bytes

    def surplus(path: Path) -> int:
        try:
            return surplus_bytes(path)
        except Exception as error:  # torch raises whatever its readers raise; `store check` reports the file
            watch(Remark("", f"{path} cannot be read and is kept: {type(error).__name__}"))
            return 0

    policy = Policy(Slimming(surplus, slim), drop_weights=drop_weights, superseded=superseded)
    num_items: Counter[str] = Counter()
    bytes_by_kind: Counter[str] = Counter()
    for litter in list(find_litter(store, policy)):
        size = remove(store, litter, policy) if apply else litter.size_bytes
        if size is not None:
            num_items[litter.kind] += 1
            bytes_by_kind[litter.kind] += size
    return Garbage(num_items, bytes_by_kind)


def export_store(store: RunStore, path: Path) -> tuple[int, list[str]]:
    """Write all records to a .jsonl, .csv or .parquet file, each with its ablations and its rows.

    Returns:
        The number of records, and one line per unreadable run.

    Raises:
        StoreError: If the file has another extension, a package is missing, or the file cannot be written.
    """
    names = RunNames.read()
    return export(store, path, lambda run_id: flat_names(names.of(run_id, store.spec(run_id))))


@dataclass(frozen=True)
class Merge:
    """Result of an import: one item per run or file, and a line per skipped path of the source."""

    items: Sequence[Imported]
    skipped: Sequence[str]

    @property
    def counts(self) -> Counter[str]:
        """Number of items per result."""
        return Counter(item.result for item in self.items)

    @property
    def num_runs(self) -> int:
        """Number of runs in the source."""
        return len({item.run_id for item in self.items})

    @property
    def ok(self) -> bool:
        """Whether nothing conflicts, is unreadable or was left out."""
        counts = self.counts
        return not self.skipped and not counts["conflict"] + counts["unreadable"] + counts["left out"]

    def rows(self) -> list[dict[str, Any]]:
        """Return one flat object per item, as `ema-lab store import --json` prints them."""
        return [
            {"run_id": item.run_id, "result": item.result, "detail": item.detail or None}
            for item in self.items
        ]


def merge_store(source: Path, store: RunStore, prefer: str | None = None) -> Merge:
    """Merge another store's runs into a store.

    Args:
        source: Folder of the other store, or a .tar, .tar.gz or .zip of it.
        store: The store that grows.
        prefer: "ours" or "theirs" settles conflicts; None imports nothing of a conflict.

    Raises:
        SpecError: If the source is the store itself, or `prefer` is something else.
        StoreError: If another process imports into the store, or the source cannot be read.
    """
    if prefer not in {None, "ours", "theirs"}:
        raise SpecError(f"--prefer must be ours or theirs, got {prefer!r}")
    side: Side | None = prefer  # type: ignore[assignment]
    if source.is_dir() and store.root.exists() and source.samefile(store.root):
        raise SpecError(f"{source} is this store itself")
    with store.claim(IMPORT_LOCK) as claimed:
        if not claimed:
            raise StoreError(f"another process imports into {store.root}")
        skipped: list[str] = []
        with open_store(source, store.root, skipped) as other:
            items = list(import_store(store, other, side))
    return Merge(items, skipped)


@dataclass(frozen=True)
class RunChoice:
    """Choice of runs: by id, or the cells of an ablation; neither chooses all runs.

    Attributes:
        run_ids: Run ids, or unambiguous prefixes.
        ablation: A path, or the name of a definition.
        only: Conditions on the ablation's cells.
        seeds: The first so many seeds of the ablation, or a list of seeds.

    Raises:
        SpecError: If both are named, or conditions without an ablation.
    """

    run_ids: Sequence[str] = ()
    ablation: str | None = None
    only: Conditions | None = None
    seeds: SeedChoice | None = None

    def __post_init__(self) -> None:
        if self.run_ids and self.ablation:
            raise SpecError("name either runs or --ablation")
        if self.ablation is None and (self.only or self.seeds):
            raise SpecError("--only and --seeds choose cells of an --ablation")

    def in_store(self, store: RunStore) -> list[str]:
        """Return the ids of the chosen runs that a store has."""
        if self.ablation is not None:
            present = store.folder_names()
            specs = selected(self.ablation, self.only, self.seeds).runs()
            return [spec.run_id for spec in specs if spec.run_id in present]
        return list(dict.fromkeys(_full_id(store, run_id) for run_id in self.run_ids or store.run_ids()))


def _full_id(store: RunStore, run_id: str) -> str:
    """Return a run's id from a prefix; a complete id is valid even if the run's spec is lost."""
    is_whole = RUN_ID.fullmatch(run_id) and run_id in store.folder_names()
    return run_id if is_whole else store.find(run_id)


def remeasure_runs(store: RunStore, choice: RunChoice) -> list[Remeasured]:
    """Compute the metrics of finished runs again from their stored predictions, without training.

    Damaged runs, and predictions other than those of the record, are refused. Unfinished runs of an ablation
    or of the store are skipped.
    """
    from ema_lab.tasks.classification.stored import problem_of
    from ema_lab.tasks.task import stored_metrics

    run_ids = choice.in_store(store)
    if not choice.run_ids:
        facts = {run_id: store.facts(run_id) for run_id in run_ids}
        run_ids = [run_id for run_id in run_ids if facts[run_id].done or facts[run_id].damage]
    return list(remeasure(store, run_ids, stored_metrics, problem_of))


def changed_metrics(results: Sequence[Remeasured]) -> list[dict[str, Any]]:
    """Return one flat object per metric that has changed."""
    return [
        {
            "run_id": result.run_id,
            "metric": name,
            "before": result.before.get(name),
            "after": result.after.get(name),
        }
        for result in results
        for name in dict.fromkeys([*result.before, *result.after])
        if result.before.get(name) != result.after.get(name)
    ]

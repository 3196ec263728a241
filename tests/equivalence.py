"""Declares which changes of the source since a revision change no result: `make equivalence SINCE=REV`.

Trains the same small runs with the revision's code and with today's, on one thread of the CPU, and
compares predictions, curves and weights bit by bit. Only if all are equal are the hashes of every
shipped part, then and now, written to `ema_lab/store/equivalent.yaml`, so that finished results stay
valid. Minutes; nothing is written if anything differs.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from ema_lab.ablation.ablation import load_ablation
from ema_lab.registry.catalogue import ATTENTIONS, BACKBONES, DATASETS
from ema_lab.specs.definition import definitions
from ema_lab.specs.run import DataSpec
from ema_lab.specs.task import DEFAULT_TASK
from ema_lab.store.staleness import EQUIVALENT, Equivalence, load_equivalences

ROOT = Path(__file__).resolve().parents[1]
TRAINED = {"quickstart": ROOT / "ablations/quickstart.yaml", "equivalence": ROOT / "tests/equivalence.yaml"}
PARTS = ("module", "backbone", "data", "training")
TIMES = {"train_seconds"}  # columns of a curve that differ from run to run
OWN_CODE = """
import os, sys
import ema_lab
if not ema_lab.__file__.startswith(os.environ["PYTHONPATH"]):
    sys.exit(f"{ema_lab.__file__} is not the code of {os.environ['PYTHONPATH']}")
"""
HASHES = f"""{OWN_CODE}
import json
from dataclasses import asdict
from ema_lab.specs.run import RunSpec
try:
    from ema_lab.store.source import source_hashes
except ImportError:
    from ema_lab.experiments.source import source_hashes
for tree in json.load(sys.stdin):
    try:
        spec = RunSpec.model_validate(tree)
    except Exception:
        print("null")
    else:
        print(json.dumps({{"source": source_hashes(spec), "facts": asdict(spec.data.facts)}}))
"""
RUN = f"{OWN_CODE}\nfrom ema_lab.cli.main import run\nsys.exit(run(sys.argv[1:]))"

ADDED_FACTS = {"task": DEFAULT_TASK}
"""Facts that older revisions do not state, and what holds there."""


class DifferenceError(Exception):
    """The two revisions give different results, or cannot be compared."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare and declare; return 1 where something differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("since", metavar="REV", help="the revision whose results shall stay valid")
    parser.add_argument("--list", type=Path, default=EQUIVALENT, help="the file to write")
    parser.add_argument("--keep", type=Path, help="a folder for the revision's runs, to use again")
    asked = parser.parse_args(arguments)
    try:
        with worktree(asked.since) as old, tempfile.TemporaryDirectory() as folder:
            found = compared(old, (asked.keep or Path(folder)) / commit_of(old), Path(folder, "now"))
    except DifferenceError as error:
        print(f"equivalence: {error}", file=sys.stderr)
        return 1
    entries = merged(load_equivalences(asked.list), found)
    asked.list.write_text(rendered(asked.list.read_text(encoding="utf-8"), entries), encoding="utf-8")
    print(
        f"equivalence: {len(found)} changed hashes since {asked.since}, {len(entries)} in {asked.list.name}"
    )
    return 0


@contextmanager
def worktree(revision: str) -> Iterator[Path]:
    """Check a revision out beside the others, and take it away again."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "then")
        git = ["git", "-C", str(ROOT), "worktree"]
        added = subprocess.run([*git, "add", "--detach", str(path), revision], capture_output=True, text=True)
        if added.returncode:
            raise DifferenceError(
                f"{revision} cannot be checked out: {added.stderr.strip().splitlines()[-1]}"
            )
        try:
            yield path
        finally:
            subprocess.run([*git, "remove", "--force", str(path)], check=True, capture_output=True)


def compared(old: Path, kept: Path, fresh: Path) -> list[Equivalence]:
    """Train with both trees and return what may be declared.

    Args:
        old: The revision's tree.
        kept: Where its runs are, and may be already.
        fresh: Where today's are trained; nothing is there.

    Raises:
        DifferenceError: If anything differs.
    """
    trees = probes()
    then, now = (hashes(tree, trees) for tree in (old, ROOT))
    check_facts(trees, then, now)
    changes = changed(then, now)
    runs: list[Mapping[str, str]] = []
    for name, path in TRAINED.items():
        text = of_both(path, old)
        stores = [trained(tree, path.stem, text, folder) for tree, folder in ((old, kept), (ROOT, fresh))]
        if different := list(differences(*stores)):
            raise DifferenceError(f"{name}: " + "; ".join(different))
        runs += [read_record(run)["source"] for run in run_folders(stores[1])]
    proof = f"{len(runs)} runs of {' and '.join(TRAINED)} bit-equal since {commit_of(old)}"
    seen = {(part, value) for source in runs for part, value in source.items()}
    return [
        Equivalence(
            part=part,
            old=before,
            new=after,
            reason=proof if (part, after) in seen else f"{proof}; shares all but its own file with them",
        )
        for part, before, after in changes
    ]


def commit_of(tree: Path) -> str:
    """Return the short name of a checkout's commit."""
    command = ["git", "-C", str(tree), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def probes() -> list[dict[str, Any]]:
    """Return the specs of runs that have every shipped part, and every combination of shipped files."""
    specs = [cell.spec for path in TRAINED.values() for cell in load_ablation(path).cells]
    specs += [cell.spec for path in definitions("ablations").values() for cell in load_ablation(path).cells]
    found = [spec.resolved() for spec in specs if not spec.seed]
    base = load_ablation(TRAINED["equivalence"]).cells[0].spec.resolved()

    def change(key: str, **values: object) -> None:
        found.append({**base, key: values})

    plain = [name for name in ATTENTIONS if "of" not in ATTENTIONS.options(name)]
    for name in plain:
        change("model", backbone="resnet20", attention={"name": name})
        for wrapper in set(ATTENTIONS) - set(plain):
            change("model", backbone="resnet20", attention={"name": wrapper, "of": {"name": name}})
    for name in [*BACKBONES, "timm/resnet18"]:
        change("model", backbone=name)
    scenes = next(spec for spec in found if "detection" in spec["recipe"])
    for name in DATASETS:
        data = DataSpec(name=name, val_images=16)
        found.append({**(scenes if data.facts.task == "detection" else base), "data": data.resolved()})
    return found


def hashes(tree: Path, specs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any] | None]:
    """Return source hashes and facts of runs as the code of a tree sees them; None of what it refuses."""
    done = subprocess.run(
        [sys.executable, "-c", HASHES],
        input=json.dumps(specs),
        cwd=tree,
        env=environment(tree),
        capture_output=True,
        text=True,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def environment(tree: Path) -> dict[str, str]:
    """Return the environment of a process that runs a tree's code on one thread."""
    one = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "PYTHONDONTWRITEBYTECODE"), "1")
    return {**os.environ, **one, "PYTHONPATH": str(tree)}


def check_facts(specs: Sequence[Any], then: Sequence[Any], now: Sequence[Any]) -> None:
    """Check that nothing was lost since, and that no data set's facts have changed.

    Raises:
        DifferenceError: If so.
    """
    for spec, before, after in zip(specs, then, now, strict=True):
        if before is None:
            continue  # new since then: no record has it
        if after is None:
            raise DifferenceError(f"{spec} is refused now")
        if {**ADDED_FACTS, **before["facts"]} != {**ADDED_FACTS, **after["facts"]}:
            raise DifferenceError(f"the facts of {spec['data']['name']} were {before['facts']}")


def changed(then: Sequence[Any], now: Sequence[Any]) -> list[tuple[str, str, str]]:
    """Return part, old and new hash of all that has changed.

    Raises:
        DifferenceError: If a source cannot be read.
    """
    pairs = [(before["source"], after["source"]) for before, after in zip(then, now, strict=True) if before]
    found = {(part, before[part], after[part]) for before, after in pairs for part in PARTS}
    if unread := sorted(part for part, *both in found if "" in both):
        raise DifferenceError(f"the source of {', '.join(unread)} cannot be read")
    return sorted(item for item in found if item[1] != item[2])


def of_both(ablation: Path, old: Path) -> str:
    """Return the text of an ablation's file without the rows that the code of another tree refuses."""
    cells = load_ablation(ablation).cells
    then = hashes(old, [cell.spec.resolved() for cell in cells])
    new = {cell.variant for cell, found in zip(cells, then, strict=True) if found is None}
    text = ablation.read_text(encoding="utf-8")
    if not new:
        return text
    tree = yaml.safe_load(text)
    tree["variants"] = {name: changes for name, changes in tree["variants"].items() if name not in new}
    return yaml.safe_dump(tree, sort_keys=False)


def trained(tree: Path, name: str, text: str, folder: Path) -> Path:
    """Train the first seed of an ablation with a tree's code; return the store.

    Raises:
        DifferenceError: If a run fails.
    """
    (folder / "ablations").mkdir(parents=True, exist_ok=True)
    (folder / "ablations" / f"{name}.yaml").write_text(text, encoding="utf-8")
    store = folder / f"runs-{name}"
    command = [
        "run",
        name,
        "--seeds",
        "1",
        "--workers",
        "1",
        "--device",
        "cpu",
        "--store",
        str(store),
    ]
    done = subprocess.run(
        [sys.executable, "-c", RUN, *command], cwd=folder, env=environment(tree), preexec_fn=_take_one_core
    )
    if done.returncode:
        raise DifferenceError(f"{name} cannot be trained in {tree.name}")
    return store


def _take_one_core() -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def run_folders(store: Path) -> list[Path]:
    return sorted(path.parent for path in store.glob("*/record.json"))


def read_record(folder: Path) -> Any:
    return json.loads((folder / "record.json").read_text(encoding="utf-8"))


def differences(then: Path, now: Path) -> Iterator[str]:
    """Yield what differs between the runs of two stores, in words."""
    before, after = ([folder.name for folder in run_folders(store)] for store in (then, now))
    if before != after or not before:
        yield f"other runs: {sorted({*before} ^ {*after}) or 'none at all'}"
    for run_id in sorted({*before} & {*after}):
        for what, same in compare(then / run_id, now / run_id):
            if not same:
                yield f"{run_id}: {what} differs"


def compare(then: Path, now: Path) -> Iterator[tuple[str, bool]]:
    """Yield what is compared of a run, and whether it is equal."""
    records = [read_record(folder) for folder in (then, now)]
    for key in ("status", "chosen_epoch", "data_sha256"):
        yield key, records[0][key] == records[1][key]
    threads = [record["environment"].get("num_threads") for record in records]
    yield "num_threads", threads == [1, 1]
    for metric, value in records[0]["metrics"].items():
        yield metric, records[1]["metrics"].get(metric) == value
    yield "predictions.npz", _covers(*(_arrays(folder / "predictions.npz") for folder in (then, now)))
    yield "curve.csv", _covers(*(_columns(folder / "curve.csv") for folder in (then, now)))
    for name in ("last.ckpt", "best.ckpt"):
        weights = [_weights(folder / name) for folder in (then, now)]
        yield name, weights[0].keys() == weights[1].keys() and _covers(*weights)


def _covers(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether all that was there is there now, bit by bit; more may have come."""
    return all(key in after and before[key] == after[key] for key in before)


def _arrays(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as found:
        return {key: (found[key].dtype.str, found[key].shape, found[key].tobytes()) for key in found.files}


def _columns(path: Path) -> dict[str, list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return {key: [row[key] for row in rows] for key in (rows[0] if rows else ()) if key not in TIMES}


def _weights(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    return {key: (str(t.dtype), tuple(t.shape), t.contiguous().numpy().tobytes()) for key, t in state.items()}


def merged(earlier: Iterable[Equivalence], found: Iterable[Equivalence]) -> list[Equivalence]:
    """Return both lists as one, sorted: a later declaration wins, and none leads away from today's source."""
    again = {(item.part, item.old) for item in found} | {(item.part, item.new) for item in found}
    kept = [item for item in earlier if (item.part, item.old) not in again]
    return sorted({(item.part, item.old, item.new): item for item in (*kept, *found)}.values(), key=_place)


def _place(item: Equivalence) -> tuple[int, str, str]:
    return PARTS.index(item.part), item.old, item.new


def rendered(text: str, entries: Iterable[Equivalence]) -> str:
    """Return the file's head with another list."""
    lines = (
        f'{{part: {item.part}, old: "{item.old}", new: "{item.new}", reason: {json.dumps(item.reason)}}}'
        for item in entries
    )
    return text.partition("equivalent:")[0] + "equivalent:\n" + "".join(f"  - {line}\n" for line in lines)


if __name__ == "__main__":
    sys.exit(main())

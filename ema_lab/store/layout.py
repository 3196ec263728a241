"""Names of the files and folders of a store: the only module that spells them.

`runs/<run id>/` holds a run's files. `runs/.locks/<run id>.lock` is never renamed or removed: the kernel
frees a lock when its process dies.
"""

import re
from pathlib import Path

from ema_lab.specs.run import RUN_ID_LENGTH, RunSpec

# In a run's folder.
SPEC = "spec.json"
RECORD = "record.json"
CURVE = "curve.csv"
PREDICTIONS = "predictions.npz"
ATTEMPTS = "attempts"  # holds N.json, N from 1
LAST = "last.ckpt"
BEST = "best.ckpt"  # where the protocol chooses an epoch
LOG = "log.txt"
HEARTBEAT = "heartbeat.json"  # for display and nothing else
SUPERSEDED = "superseded"  # holds N/, the files of an earlier result
DROPPED = "weights.dropped"  # left by `store gc --drop-weights`: missing weights are no damage then
ALL_CHECKPOINTS = "*.ckpt"
RUN_FILES = frozenset(
    {SPEC, RECORD, CURVE, PREDICTIONS, ATTEMPTS, LAST, BEST, LOG, HEARTBEAT, SUPERSEDED, DROPPED}
)
RESUMED = (LAST, BEST, CURVE)  # what a run goes on from, and what shows how far it has come

# Beside the run folders.
LOCKS = ".locks"
COSTS = ".costs"  # measured costs, a file each
PROBES = ".probes.json"
ENGINE = ".engine"  # what workers on other machines report, and their logs
REMOVING = ".removing-"  # begins the name of a run that is being removed
IMPORTING = ".importing-"  # begins the name of what is being copied in

RUN_ID = re.compile(rf"[0-9a-f]{{{RUN_ID_LENGTH}}}")
RUN_ID_FIELD = "run_id"  # of whose run a curve, predictions and checkpoints are; older files have none
_ATTEMPT = re.compile(r"([1-9][0-9]{0,8})\.json", re.ASCII)


def attempt_path(number: int) -> str:
    """Return the path of an attempt inside a run's folder."""
    return f"{ATTEMPTS}/{number}.json"


def attempt_number(name: str) -> int | None:
    """Return the number of the attempt that a file of that name holds; None if it is no attempt's name."""
    match = _ATTEMPT.fullmatch(name)
    return int(match[1]) if match else None


def lock_path(root: Path, name: str) -> Path:
    """Return the lock file of a run, or of an action on the whole store."""
    return root / LOCKS / f"{name}.lock"


def weights_file(spec: RunSpec) -> str:
    """Return the name of the checkpoint that holds the weights which a run reports."""
    return LAST if spec.recipe.protocol == "last" else BEST

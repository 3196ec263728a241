"""Names of a store's files and folders. No other module spells them.

`runs/<run id>/` holds a run's files. `runs/.locks/<run id>.lock` is never renamed or removed: the kernel
frees a lock when its process dies.
"""

import re
from pathlib import Path

from ema_lab.specs.run import RUN_ID_LENGTH, RunSpec

# Files of a run folder.
SPEC = "spec.json"
RECORD = "record.json"
CURVE = "curve.csv"
PREDICTIONS = "predictions.npz"
ANALYSIS = "analysis.json"  # numbers that reports have derived from the predictions; may be removed
ATTEMPTS = "attempts"  # holds N.json, N from 1
LAST = "last.ckpt"
BEST = "best.ckpt"  # only if the protocol chooses an epoch
START = "start.csv"  # only if the run starts from a file of weights
LOG = "log.txt"
HEARTBEAT = "heartbeat.json"  # for display only
PROFILE = "profile.txt"  # where the time went, of a run that was profiled
TRACE = "trace.json"  # torch's trace of a few of its steps
SUPERSEDED = "superseded"  # holds N/, the files of an earlier result
DROPPED = "weights.dropped"  # marks weights that `store gc --drop-weights` removed, which are then no damage
ALL_CHECKPOINTS = "*.ckpt"
RUN_FILES = frozenset(
    {
        *(SPEC, RECORD, CURVE, PREDICTIONS, ANALYSIS, ATTEMPTS, LAST, BEST),
        *(START, LOG, HEARTBEAT, PROFILE, TRACE, SUPERSEDED, DROPPED),
    }
)
RESUMED = (LAST, BEST, CURVE)  # files from which a run resumes, and its progress

# Beside the run folders.
LOCKS = ".locks"
COSTS = ".costs"  # one file per measurement
PROBES = ".probes.json"
CACHE = ".cache"  # compiled code, which workers share; may be removed
ENGINE = ".engine"  # reports and logs of workers on other machines
MEETINGS = "meetings"  # holds <run id>.json: where the machines that train a run together meet
REMOVING = ".removing-"  # prefix of a run folder during its removal
IMPORTING = ".importing-"  # prefix of a run folder during its import

RUN_ID = re.compile(rf"[0-9a-f]{{{RUN_ID_LENGTH}}}")
RUN_ID_FIELD = "run_id"  # names the run in curves, predictions and checkpoints; absent in older files
_ATTEMPT = re.compile(r"([1-9][0-9]{0,8})\.json", re.ASCII)


def attempt_path(number: int) -> str:
    """Return the path of an attempt inside a run's folder."""
    return f"{ATTEMPTS}/{number}.json"


def attempt_number(name: str) -> int | None:
    """Return the attempt number in a file name; None for the name of another file."""
    match = _ATTEMPT.fullmatch(name)
    return int(match[1]) if match else None


def lock_path(root: Path, name: str) -> Path:
    """Return the lock file of a run id, or of a named action on the whole store."""
    return root / LOCKS / f"{name}.lock"


def meeting_path(folder: Path, run_id: str) -> Path:
    """Return the file that says where the machines that train a run together meet."""
    return folder / MEETINGS / f"{run_id}.json"


def weights_file(spec: RunSpec) -> str:
    """Return the file name of the checkpoint with the reported weights."""
    return LAST if spec.recipe.protocol == "last" else BEST

"""Weights & Biases as a mirror: online with a key, else as offline runs that `wandb sync` sends later.

The state of the mirror is recorded below the store, not queried from W&B. After a run has been sent, its
hash is written to `.mirror/HOST/PROJECT/ABLATION/<W&B's id>/sent.json`, next to the offline run.
"""

import json
import os
import shlex
import shutil
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ema_lab.errors import MirrorError, SpecError
from ema_lab.files import read_text, write_text
from ema_lab.tracking.mirror.content import MirrorRun
from ema_lab.tracking.mirror.push import MirrorState
from ema_lab.tracking.names import wandb_has_key, wandb_server

OFFLINE_MODES = {"offline", "dryrun"}
FOLDER = ".mirror"
SENT = "sent.json"
INIT_SECONDS = 30  # time limit for the server's first answer
FINISH_SECONDS = 600  # time limit for a run's arrival; the next push sends it again


class WandbMirror:
    """Mirror of one ablation: a group in a W&B project.

    Args:
        store: The store's folder, which contains the mirror's folder.
        project: Name of W&B's project.
        group: Name of the ablation.
        folder: Name of the mirror's folder in the store; sweeps have one of their own.

    Raises:
        SpecError: If W&B is disabled, or online without a key.
    """

    def __init__(self, store: Path, project: str, group: str, folder: str = FOLDER) -> None:
        mode = os.environ.get("WANDB_MODE") or ("online" if wandb_has_key() else "offline")
        if mode not in OFFLINE_MODES | {"online"}:
            raise SpecError(f"--to wandb needs WANDB_MODE=online or offline, got {mode!r}")
        if mode == "online" and not wandb_has_key():
            raise SpecError("wandb has no API key here; run `wandb login`, or set WANDB_MODE=offline")
        os.environ.setdefault("WANDB_SILENT", "true")
        self.offline = mode in OFFLINE_MODES
        self.project = project
        self.group = group
        entity = os.environ.get("WANDB_ENTITY", "")
        where = "wandb-offline" if self.offline else "@".join(filter(None, (entity, wandb_server().netloc)))
        self._projects = store.resolve() / folder / where.replace(":", "-") / project
        self.folder = self._projects / group
        self.destination = (
            f"W&B's offline runs in {self.folder}" if self.offline else f"{where}, project {project}"
        )
        self.url = ""  # of the project; known once a run has been sent to a server
        self._path = "/".join(filter(None, (entity, project)))

    def state_of(self, run: MirrorRun) -> MirrorState:
        note = self._note(self.folder / self._id(run))
        return "same" if note.get("sha256") == run.sha256 else "other" if note else "no"

    def send(self, run: MirrorRun) -> None:
        folder = self.folder / self._id(run)
        with _errors_in_one_line(self.destination):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)  # reserves W&B's id for this ablation
            self._log(run, folder)
            if self.offline and not list(folder.glob("wandb/offline-run-*/*.wandb")):
                raise MirrorError(f"{run.name} did not arrive in {folder}")
            if not self.offline:
                for name in ("wandb", "data"):
                    shutil.rmtree(folder / name, ignore_errors=True)
            note = {"run_id": run.run_id, "name": run.name, "sha256": run.sha256}
            write_text(folder / SENT, json.dumps(note, indent=1) + "\n", durable=False)

    def _log(self, run: MirrorRun, folder: Path) -> None:
        import wandb

        live = wandb.init(  # without `resume`, so that W&B replaces a run of this id
            project=self.project,
            id=folder.name,
            name=run.name,
            group=self.group,
            job_type=run.job_type,
            tags=list(run.tags),
            config=dict(run.config or {}),
            dir=str(folder),
            mode="offline" if self.offline else "online",
            reinit="finish_previous",
            settings=_settings(),
        )
        for row in run.curve:
            live.log(dict(row), step=int(row["epoch"]))
        if run.table:
            data = [list(row.values()) for row in run.table]
            with _staging(folder / "data"):
                live.log({"results": wandb.Table(columns=[*run.table[0]], data=data)})
        live.summary.update(dict(run.summary or {}))
        live.finish()
        self.url = live.project_url or ""

    def orphans(self, known: Set[str]) -> dict[str, str]:
        notes = {path.name: self._note(path) for path in sorted(self.folder.glob("*"))}
        return {key: note["name"] for key, note in notes.items() if note and note["run_id"] not in known}

    def remove(self, mirror_id: str) -> None:
        with _errors_in_one_line(self.destination):
            if not self.offline:
                import wandb

                wandb.Api().run(f"{self._path}/{mirror_id}").delete()
            shutil.rmtree(self.folder / mirror_id)

    @property
    def sync_command(self) -> str:
        """Shell command that uploads the offline runs from a machine with an account."""
        return f"wandb sync {shlex.quote(str(self.folder))}/*/wandb/offline-run-*"

    @property
    def next_step(self) -> str:
        """Command that sends the offline runs, or the project's address; empty if not known."""
        return self.sync_command if self.offline else self.url

    def _id(self, run: MirrorRun) -> str:
        """Return W&B's id: the run id, with the ablation's name appended if another group has the run.

        A W&B run belongs to a single group. A baseline that two ablations share must be in both groups.
        """
        others = (path for path in self._projects.glob(f"*/{run.run_id}") if path.parent != self.folder)
        return f"{run.run_id}-{self.group}" if any(others) else run.run_id

    def _note(self, folder: Path) -> Mapping[str, Any]:
        try:
            note = json.loads(read_text(folder / SENT))
        except (OSError, ValueError):
            return {}
        return note if isinstance(note, dict) else {}


@contextmanager
def _staging(folder: Path) -> Iterator[None]:
    """Keep W&B's staged table data next to the run: it must survive until a later `wandb sync`."""
    previous = os.environ.get("WANDB_DATA_DIR")
    os.environ["WANDB_DATA_DIR"] = str(folder)
    try:
        yield
    finally:
        del os.environ["WANDB_DATA_DIR"]
        if previous is not None:
            os.environ["WANDB_DATA_DIR"] = previous


def _settings() -> Any:
    """Return settings that disable measurements of this machine, which has not trained the runs."""
    import wandb

    settings = {
        "console": "off",
        "silent": True,
        "init_timeout": INIT_SECONDS,
        "finish_timeout": FINISH_SECONDS,
        "finish_timeout_raises": True,
        "disable_git": True,
        "disable_code": True,
        "x_disable_stats": True,
        "x_disable_meta": True,
        "x_save_requirements": False,
    }
    known = wandb.Settings.model_fields  # older versions of W&B lack some
    return wandb.Settings(**{key: value for key, value in settings.items() if key in known})


@contextmanager
def _errors_in_one_line(destination: str) -> Iterator[None]:
    """Turn errors of W&B, the file system or bad values into a `MirrorError` of one line."""
    try:
        yield
    except MirrorError:
        raise
    except Exception as error:
        is_wandb_error = (
            type(error).__module__.partition(".")[0] == "wandb"
        )  # not all derive from wandb.Error
        if not is_wandb_error and not isinstance(error, (OSError, ValueError)):
            raise
        line = (str(error).strip().splitlines() or [""])[0]
        raise MirrorError(f"{destination}: {type(error).__name__}: {line}") from None

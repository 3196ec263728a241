"""TensorBoard as a mirror: a folder of event files per finished run, complete once its note is written."""

import json
import shlex
import shutil
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ema_lab.errors import MirrorError
from ema_lab.files import read_text, write_text
from ema_lab.tracking.mirror.content import MirrorRun
from ema_lab.tracking.mirror.push import MirrorState
from ema_lab.tracking.tensorboard_files import EventFiles, folder_name

FOLDER = Path(".mirror") / "tensorboard"
SENT = "sent.json"


class TensorBoardMirror:
    """Mirror of one ablation: the folder PROJECT/ABLATION below the store's mirrors."""

    def __init__(self, store: Path, project: str, group: str) -> None:
        self._projects = store.resolve() / FOLDER / project
        self.folder = self._projects / group
        self.destination = f"TensorBoard's files in {self.folder}"

    @property
    def next_step(self) -> str:
        """Command that shows the runs."""
        return f"tensorboard --logdir {shlex.quote(str(self._projects))}"

    def state_of(self, run: MirrorRun) -> MirrorState:
        note = _note(self._folder(run))
        earlier = run.run_id in self._by_run_id()
        return "same" if note.get("sha256") == run.sha256 else "other" if earlier else "no"

    def send(self, run: MirrorRun) -> None:
        folder = self._folder(run)
        with self._errors_in_one_line():
            for earlier in (*self._by_run_id().get(run.run_id, []), folder):
                shutil.rmtree(earlier, ignore_errors=True)
            files = EventFiles(folder)
            for row in run.curve:
                files.scalars(int(row["epoch"]), {key: v for key, v in row.items() if key != "epoch"})
            if run.config:
                files.config(run.config)
                files.summary(run.config, run.summary or {})
            if run.table:
                files.table(run.table)
            files.close()
            note = {"run_id": run.run_id, "name": run.name, "sha256": run.sha256}
            write_text(folder / SENT, json.dumps(note, indent=1) + "\n", durable=False)

    def orphans(self, known: Set[str]) -> dict[str, str]:
        return {
            run_id: str(_note(folders[0])["name"])
            for run_id, folders in self._by_run_id().items()
            if run_id not in known
        }

    def remove(self, mirror_id: str) -> None:
        with self._errors_in_one_line():
            for folder in self._by_run_id()[mirror_id]:
                shutil.rmtree(folder)

    def _folder(self, run: MirrorRun) -> Path:
        return self.folder / folder_name(run.name, run.run_id)

    def _by_run_id(self) -> dict[str, list[Path]]:
        """Return the folders of complete runs by run id: more than one after a row was renamed."""
        folders: dict[str, list[Path]] = {}
        for folder in sorted(self.folder.glob("*")):
            if run_id := _note(folder).get("run_id"):
                folders.setdefault(str(run_id), []).append(folder)
        return folders

    @contextmanager
    def _errors_in_one_line(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise MirrorError(f"{self.destination}: {type(error).__name__}: {error}") from None


def _note(folder: Path) -> Mapping[str, Any]:
    try:
        note = json.loads(read_text(folder / SENT))
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}

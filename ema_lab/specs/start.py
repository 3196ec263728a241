"""Start weights of a model, from a file on disk: what they are, not where they lie, decides a result."""

import hashlib
import os
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from ema_lab.files import is_readable
from ema_lab.specs.strict import Spec, invalid

Names = Literal["own", "yolov5", "yolov5-index"]


class StartSpec(Spec):
    """Weights to start from, by name and shape, instead of drawn ones.

    Attributes:
        file: Path of the file, a state dict that torch saved. It is looked for from the current folder, then
            in the data folder. It is not part of a run's id.
        sha256: SHA-256 of the file, which is part of a run's id. Read from the file by default.
        names: How the file names its tensors. `own`: as this model does. `yolov5`: by YOLOv5 v6.0's numbers
            of layers, each of which goes to the same layer. `yolov5-index`: to the layer of the same number,
            as v6.0 itself does; attention shifts the numbers of all layers behind it.
        prefix: Text to put before the file's names, such as `backbone.body.` for a classifier's weights in a
            detector.
    """

    file: Annotated[str, Field(min_length=1)]
    sha256: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""
    names: Names = "own"
    prefix: str = ""

    @model_validator(mode="after")
    def _with_sha256(self) -> Self:
        if not self.sha256:
            try:
                object.__setattr__(self, "sha256", file_sha256(Path(self.file)))
            except OSError as error:
                rule = (
                    f"{self.file} cannot be read ({error.strerror or error}): name a file, or give its sha256"
                )
                raise invalid("start", rule, "file") from None
        if self.prefix and self.names != "own":
            raise invalid("start", f"changes nothing with names: {self.names}", "prefix")
        return self

    def resolved(self) -> dict[str, Any]:
        """Return the spec as plain data without keys at their default."""
        return {"file": self.file, **self.identity()}

    def identity(self) -> dict[str, Any]:
        """Return what decides a result."""
        given = {"names": self.names, "prefix": self.prefix}
        plain = {"names": "own", "prefix": ""}
        return {"sha256": self.sha256, **{key: item for key, item in given.items() if item != plain[key]}}


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, kept until the file changes.

    Raises:
        OSError: If it cannot be read, or must not be.
    """
    if not is_readable(path):
        raise PermissionError(0, "it lies outside the bundle")
    if not path.is_file():
        raise FileNotFoundError(0, "there is no such file")
    status = path.stat()
    return _sha256(os.fspath(path.absolute()), status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=64)
def _sha256(path: str, _changed: int, _size: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

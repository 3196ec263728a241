"""Start weights of a model, from a file or by name. A run's id holds their hash, not their path."""

import ast
import hashlib
import os
import re
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from ema_lab.files import is_readable
from ema_lab.specs.strict import Spec, invalid

LONG = 64  # hexadecimal digits of a SHA-256
_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8})[0-9a-f]*\.pth$")
Names = Literal["own", "yolov5", "yolov5-index"]


class StartSpec(Spec):
    """Weights to start from, by name and shape, instead of drawn ones: a file, or published weights by name.

    Attributes:
        file: Path of the file, a state dict that torch or safetensors saved. It is looked for from the
            current folder, then in the data folder. It is not part of a run's id.
        weights: Published weights, instead of `file`: torchvision's such as
            `torchvision/ResNet18_Weights.IMAGENET1K_V1`, or timm's such as `timm/resnet18.a1_in1k`. They are
            downloaded once, as torchvision and timm do it.
        sha256: SHA-256 of the file, which is part of a run's id. Read from the file by default. Of
            torchvision's weights the first eight digits, which their address has; timm's need it.
        names: How the file names its tensors. `own`: as this model does. `yolov5`: by YOLOv5 v6.0's numbers
            of layers, each of which goes to the same layer. `yolov5-index`: to the layer of the same number,
            as v6.0 itself does; attention shifts the numbers of all layers behind it.
        prefix: Text to put before the file's names, such as `backbone.body.` for a classifier's weights in a
            detector.
    """

    file: str = ""
    weights: Annotated[str, Field(pattern=r"^(torchvision|timm)/\w[\w.-]*$")] | None = None
    sha256: Annotated[str, Field(pattern=r"^([0-9a-f]{8}|[0-9a-f]{64})?$")] = ""
    names: Names = "own"
    prefix: str = ""

    @model_validator(mode="after")
    def _file_or_weights(self) -> Self:
        if bool(self.file) == bool(self.weights):
            raise invalid("start", "needs either `file` or `weights`", "file")
        if self.weights is not None and self.names != "own":
            raise invalid("start", f"does not apply to {self.weights}", "names")
        return self

    @model_validator(mode="after")
    def _with_sha256(self) -> Self:
        if self.weights is not None:
            object.__setattr__(self, "sha256", weights_sha256(self.weights, self.sha256))
        elif not self.sha256:
            try:
                object.__setattr__(self, "sha256", file_sha256(Path(self.file)))
            except OSError as error:
                rule = (
                    f"{self.file} cannot be read ({error.strerror or error}): name a file, or give its sha256"
                )
                raise invalid("start", rule, "file") from None
        elif len(self.sha256) < LONG:
            raise invalid("start", f"needs all {LONG} digits, got {self.sha256!r}", "sha256")
        if self.prefix and self.names != "own":
            raise invalid("start", f"changes nothing with names: {self.names}", "prefix")
        return self

    @property
    def source(self) -> str:
        """The file or the weights, as the spec names them."""
        return self.weights or self.file

    def resolved(self) -> dict[str, Any]:
        """Return the spec as plain data without keys at their default."""
        source = {"file": self.file} if self.weights is None else {"weights": self.weights}
        return {**source, **self.identity()}

    def identity(self) -> dict[str, Any]:
        """Return the part of the spec that decides a result."""
        given = {"names": self.names, "prefix": self.prefix}
        plain = {"names": "own", "prefix": ""}
        return {"sha256": self.sha256, **{key: item for key, item in given.items() if item != plain[key]}}


def weights_sha256(weights: str, stated: str) -> str:
    """Return the digits of the SHA-256 that identify published weights, without downloading them.

    Raises:
        ValidationError: If there are no such weights, or the stated digits are missing or are not theirs.
    """
    library, _, name = weights.partition("/")
    if library == "timm":
        if len(stated) < LONG:
            rule = f"{weights} needs the {LONG} digits of the SHA-256 of its file, which timm does not know; "
            where = "its page on the Hugging Face hub shows them"
            raise invalid("start", rule + where, "sha256")
        return stated
    digits = _HASH_IN_NAME.search(torchvision_url(name))
    if digits is None:
        raise invalid(
            "start", f"the address of {weights} has no hash: download it, and use `file`", "weights"
        )
    if stated and not stated.startswith(digits[1]):
        raise invalid("start", f"{weights} has the SHA-256 {digits[1]}..., not {stated[:8]}...", "sha256")
    return digits[1]


@lru_cache(maxsize=64)
def torchvision_url(name: str) -> str:
    """Return the address of torchvision's weights `CLASS.NAME`, read from its source without importing it.

    Raises:
        ValidationError: If torchvision has no such weights.
    """
    kind, _, member = name.partition(".")
    package = find_spec("torchvision")
    folders = [Path(path) / "models" for path in (package and package.submodule_search_locations) or ()]
    for path in (path for folder in folders for path in sorted(folder.rglob("*.py"))):
        text = path.read_text(encoding="utf-8")
        if f"class {kind}(" not in text:
            continue
        body = next(
            node.body for node in ast.parse(text).body if isinstance(node, ast.ClassDef) and node.name == kind
        )
        assigned = [node for node in body if isinstance(node, ast.Assign)]
        members = {
            target.id: node.value
            for node in assigned
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        value = members.get(member)
        while isinstance(value, ast.Name):  # DEFAULT is another one's name
            value = members.get(value.id)
        if isinstance(value, ast.Call):
            for keyword in value.keywords:
                if keyword.arg == "url" and isinstance(keyword.value, ast.Constant):
                    return str(keyword.value.value)
        raise invalid("start", f"torchvision's {kind} has {', '.join(members)}, not {member!r}", "weights")
    rule = f"torchvision has no {kind!r}; weights are named such as ResNet18_Weights.IMAGENET1K_V1"
    raise invalid("start", rule, "weights")


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

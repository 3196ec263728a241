"""JSON documents of a store: written whole or not at all, and read without trust."""

import json
from pathlib import Path
from typing import Any, NoReturn

from pydantic import ValidationError

from ema_lab.errors import DamagedFileError, StoreError
from ema_lab.files import NotRegularFileError, read_bytes, write_text

MAX_BYTES = 64 * 2**20  # a record with the longest of tracebacks is a thousandth of it
MAX_WORDS = 200


def write_json(path: Path, value: Any, *, durable: bool = True) -> None:
    """Write JSON, whole or not at all."""
    text = json.dumps(value, indent=1, sort_keys=True, allow_nan=False)
    write_text(path, f"{text}\n", durable=durable)


def read_json(path: Path | str) -> dict[str, Any]:
    """Return a JSON object; NaN and Infinity, which are no JSON, are refused.

    Raises:
        FileNotFoundError: If the file is not there.
        DamagedFileError: If it is no file, or its text is not what was written.
        StoreError: If the system does not let it be read.
    """
    try:
        value = json.loads(read_bytes(path, MAX_BYTES), parse_constant=_refuse)
    except FileNotFoundError:
        raise
    except NotRegularFileError as error:
        raise DamagedFileError(f"{path} cannot be read: {error.strerror}") from None
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise DamagedFileError(f"{path} cannot be read: {error}") from None
    except RecursionError:
        raise DamagedFileError(f"{path} cannot be read: it is nested too deep") from None
    if not isinstance(value, dict):
        raise DamagedFileError(f"{path} cannot be read: it holds no JSON object")
    return value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")


def first_problem(error: ValidationError) -> str:
    """Return the place and the words of an error's first problem, on one line of bounded length."""
    item = error.errors(include_url=False)[0]
    words = f"{'.'.join(map(str, item['loc']))}: {item['msg']}"
    return words if len(words) <= MAX_WORDS else f"{words[:MAX_WORDS]}..."

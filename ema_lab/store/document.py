"""JSON documents of a store: written atomically, validated when read."""

import json
import re
from pathlib import Path
from typing import Any, NoReturn

from pydantic import ValidationError
from pydantic_core import from_json

from ema_lab.errors import DamagedFileError, StoreError
from ema_lab.files import NotRegularFileError, read_bytes, write_text
from ema_lab.specs.document import error_messages

MAX_BYTES = 64 * 2**20  # a thousand times a record with a long traceback
MAX_PROBLEM_LENGTH = 200  # characters
_SURROGATE_ESCAPE = "\\ud"  # begins the JSON escape of a surrogate, alone or in a valid pair
_SURROGATE = re.compile("[\ud800-\udfff]")


def write_json(path: Path, value: Any, *, durable: bool = True) -> None:
    """Write JSON atomically; `durable` also flushes the file to the disk.

    Surrogates, as in file names that are not UTF-8, are written as escapes, so that every text of a document
    can be printed.
    """
    text = json.dumps(value, indent=1, sort_keys=True, allow_nan=False)
    if _SURROGATE_ESCAPE in text:
        text = json.dumps(value, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False)
        text = _SURROGATE.sub(lambda found: f"\\\\u{ord(found[0]):04x}", text)
    write_text(path, f"{text}\n", durable=durable)


def read_json(path: Path | str) -> dict[str, Any]:
    """Read a JSON object. NaN, Infinity and surrogates are refused: no valid JSON text has them.

    Raises:
        FileNotFoundError: If the file does not exist.
        DamagedFileError: If the path is no regular file, or its text is no JSON object.
        StoreError: If the system refuses to read the file.
    """
    try:
        content = read_bytes(path, MAX_BYTES)
        value = _decoded(content)
    except FileNotFoundError:
        raise
    except NotRegularFileError as error:
        raise DamagedFileError(f"{path} cannot be read: {error.strerror}") from None
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeEncodeError:
        raise DamagedFileError(f"{path} cannot be read: it holds a text that is not Unicode") from None
    except ValueError as error:
        raise DamagedFileError(f"{path} cannot be read: {error}") from None
    except RecursionError:
        raise DamagedFileError(f"{path} cannot be read: it is nested too deep") from None
    if not isinstance(value, dict):
        raise DamagedFileError(f"{path} cannot be read: it holds no JSON object")
    return value


def _decoded(content: bytes) -> Any:
    """Decode JSON by the fast decoder; what it refuses, by Python's, whose errors name the place."""
    try:
        return from_json(content, allow_inf_nan=False)
    except ValueError:
        pass
    value = _DECODER.decode(content.decode(json.detect_encoding(content), "surrogatepass"))
    if b"\\u" in content and _SURROGATE_ESCAPE.encode() in content.lower():
        json.dumps(value, ensure_ascii=False).encode()
    return value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")


def first_problem(error: ValidationError) -> str:
    """Return the key and the message of an error's first problem, on one line of bounded length."""
    _, problem = error_messages(error)[0]
    return problem if len(problem) <= MAX_PROBLEM_LENGTH else f"{problem[:MAX_PROBLEM_LENGTH]}..."


_DECODER = json.JSONDecoder(parse_constant=_refuse)  # json.loads would make one for each text

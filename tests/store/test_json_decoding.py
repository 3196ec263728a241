"""The fast decoder of JSON reads what Python's reads, and leaves the rest to it."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ema_lab.errors import DamagedFileError
from ema_lab.store.document import _DECODER, _decoded, read_json

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**40), 10**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20
)


def typed(value):
    """Return a value with the type and the sign of every number in it."""
    if isinstance(value, dict):
        return [(key, typed(item)) for key, item in value.items()]
    if isinstance(value, list):
        return [typed(item) for item in value]
    sign = math.copysign(1, value) if isinstance(value, float) else 0
    return (type(value), value, sign)


@given(VALUES, st.booleans())
def test_every_value_is_that_of_pythons_decoder(value, ascii_only):
    text = json.dumps(value, indent=1, ensure_ascii=ascii_only)
    expected = json.loads(text)
    assert typed(_decoded(text.encode("utf-8", "surrogatepass"))) == typed(expected)


@pytest.mark.parametrize(
    "text",
    ["-0", "-0.0", "1e400", "1E5", "5e-324", "2.2250738585072011e-308", "0.1", "123456789012345678901"],
)
def test_numbers_at_the_limits_are_those_of_pythons_decoder(text):
    assert typed(_decoded(text.encode())) == typed(_DECODER.decode(text))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32-be"])
def test_other_encodings_of_unicode_are_read(tmp_path, encoding):
    path = tmp_path / "a.json"
    path.write_bytes('{"key": "ü"}'.encode(encoding))
    assert read_json(path) == {"key": "ü"}


@pytest.mark.parametrize(
    "text",
    ['{"a": NaN}', '{"a": -Infinity}', '{"a": 1,}', '{"a": 1} 2', '{"a": "\\ud800"}', '{"a": 01}', "", "[1]"],
)
def test_what_is_no_json_object_is_damage(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(DamagedFileError, match=r"cannot be read: "):
        read_json(path)

"""Lines of items in JSON and XML files agree with where they were written."""

import json

from hypothesis import given
from hypothesis import strategies as st

from ema_lab.data.detection.lines import json_lines, xml_lines

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.lists(st.dictionaries(st.text(), VALUES, max_size=3), max_size=5), VALUES, st.integers(0, 3))
def test_items_of_a_list_in_json(items, other, indent):
    document = {"other": other, "items": items, "last": other}
    text = json.dumps(document, indent=indent or None)
    expected = []
    for number, _ in enumerate(items):
        before = json.dumps({"other": other, "items": [*items[:number], "HERE"]}, indent=indent or None)
        expected.append(before[: before.rindex('"HERE"')].count("\n") + 1)
    assert json_lines(text, "items") == expected
    assert json_lines(text, "absent") == []


@given(st.lists(st.integers(0, 3), max_size=5))
def test_elements_in_xml(gaps):
    lines, line, text = [], 1, "<a>"
    for gap in gaps:
        text += "\n" * gap + "<object><b/></object><c/>"
        line += gap
        lines.append(line)
    assert xml_lines(f"{text}</a>".encode(), "object") == lines

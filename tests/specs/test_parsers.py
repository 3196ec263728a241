"""Definitions are read by libyaml where it is there: as Python's parser reads them, with the same lines."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ema_lab.specs.scalar import Loader, compose

ROOT = Path(__file__).parents[2]
TEXTS = [
    path.read_text(encoding="utf-8")
    for folder in ("ablations", "ablations/recipes", "sweeps", "reports")
    for path in sorted((ROOT / folder).glob("*.yaml"))
]
PIECES = [
    *":-\n {}[],#&*!|>'\"\t%@`?~\\",
    "- ",
    "? ",
    "&a ",
    "*a",
    "---\n",
    "...",
    "!!str ",
    "é",
    "\x85",
    "\ufeff",
]
EDITS = st.lists(
    st.tuples(st.integers(0, 400), st.sampled_from(PIECES), st.integers(0, 2)), min_size=1, max_size=3
)


def tree(node, inside=()):
    """Return tags, lines and values of a node and all below it; an alias to what it is in as such."""
    if node is None or node in inside:
        return "nothing" if node is None else "itself"
    value = node.value
    if isinstance(node, yaml.SequenceNode):
        value = [tree(one, (*inside, node)) for one in value]
    elif isinstance(node, yaml.MappingNode):
        value = [(tree(key, (*inside, node)), tree(one, (*inside, node))) for key, one in value]
    return node.tag, node.start_mark.line, value


def read(parse):
    try:
        return tree(parse())
    except yaml.YAMLError as error:
        return str(error)


def alike(text: str) -> bool:
    return read(lambda: compose(text)) == read(lambda: yaml.compose(text, Loader=Loader))


def test_both_parsers_read_all_definitions_alike():
    assert len(TEXTS) > 40
    assert [text for text in TEXTS if not alike(text)] == []


@settings(max_examples=200)
@given(st.sampled_from(TEXTS), st.integers(0, 2000), EDITS)
def test_both_parsers_read_a_mistyped_definition_alike(text, start, edits):
    text = text[start : start + 400]
    for place, piece, removed in edits:
        text = text[:place] + piece + text[place + removed :]
    assert alike(text)


@pytest.mark.parametrize(
    "text", ["", "a: &a [*a]", "[" * 300, "a: \ud800", "a:\tb", "{a?b: 1}", "- !x y\n? "]
)
def test_both_parsers_read_what_is_odd_alike(text):
    assert alike(text)

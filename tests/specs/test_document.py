"""YAML as definitions are read: safe, every key once, every value with its line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ema_lab.errors import DefinitionError
from ema_lab.specs.document import read_document


@pytest.fixture
def read(tmp_path):
    def read(text):
        path = tmp_path / "a.yaml"
        path.write_text(text, encoding="utf-8")
        return read_document(path)

    return read


PLAIN_WORDS = [
    ("1e-4", 1e-4),
    ("1.0e-4", 1e-4),
    ("5E3", 5000.0),
    (".5", 0.5),
    ("-3", -3),
    ("010", 10),
    ("no", "no"),
    ("on", "on"),
    ("y", "y"),
    ("true", True),
    ("null", None),
    ("~", None),
    ("1_000", "1_000"),
    ("12:30", "12:30"),
    ("2024-01-01", "2024-01-01"),
    (".nan", ".nan"),
    ("'1'", "1"),
    ("0x10", "0x10"),
]


def test_a_plain_word_means_what_yaml_1_2_says(read):
    for text, value in PLAIN_WORDS:
        found = read(f"key: {text}\n").value["key"]
        assert (found, type(found)) == (value, type(value))


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_that_python_prints_is_read_back(tmp_path_factory, number):
    path = tmp_path_factory.getbasetemp() / "float.yaml"
    path.write_text(f"key: {number!r}\n", encoding="utf-8")
    assert read_document(path).value["key"] == number


def test_every_value_knows_its_line(read):
    document = read("a:\n  b: 1\n  c:\n    - x\n    - {d: 2}\n")
    places = [("a",), ("a", "b"), ("a", "c", 0), ("a", "c", 1, "d")]
    assert [document.lines[place] for place in places] == [1, 2, 4, 5]


def test_a_place_that_is_not_there_has_the_line_above_it(read):
    document = read("a:\n  b: 1\n")
    assert document.where(("a", "b", "c")) == f"{document.path}:2"
    assert document.where(("z",)) == f"{document.path}:1"


NOT_PLAIN = [
    ("a: 1\nb: 2\na: 3\n", 3, "the key 'a' appears twice"),
    ("a:\n  b: 1\n  b: 2\n", 3, "the key 'b' appears twice"),
    ("a: 1\n? [x]\n: 2\n", 2, "a key must be a single word"),
    ("a: !!python/name:os.system ''\n", 1, "python/name"),
    ("a: 1\nb: !!python/object/apply:os.system [id]\n", 2, "python/object/apply"),
    ("a: !!python/object:os.system {x: 1}\n", 1, "python/object"),
    ("a: !!set {x}\n", 1, "set"),
    ("a: !!bool maybe\n", 1, "'maybe' is not of the type"),
    ("a: !!int x\n", 1, "int"),
    ("a: [1,\n", 2, "is not YAML"),
    ("a: *nowhere\n", 1, "is not YAML"),
    ("a: 1\n---\nb: 2\n", 2, "is not YAML"),
    ("a:\n\t- 1\n", 2, "is not YAML"),
    ("- a\n- b\n", 1, "must be a mapping"),
    ("", 1, "must be a mapping"),
    ("just words\n", 1, "must be a mapping"),
]


def test_what_is_not_plain_data_is_refused_with_its_line(read, tmp_path):
    for text, line, words in NOT_PLAIN:
        with pytest.raises(DefinitionError, match=rf"a\.yaml:{line}: ") as caught:
            read(text)
        assert words in str(caught.value)


@pytest.mark.parametrize(
    "text", ["a: &x {b: *x}\n", "a: " + "[" * 3000 + "]" * 3000 + "\n"], ids=["alias", "depth"]
)
def test_endless_nesting_is_an_error_and_not_a_crash(read, text):
    with pytest.raises(DefinitionError, match=r"a\.yaml"):
        read(text)


def test_an_anchor_stands_for_a_copy(read):
    assert read("a: &x {b: 1}\nc: *x\n").value == {"a": {"b": 1}, "c": {"b": 1}}


def test_two_mistakes_are_reported_at_once(read):
    with pytest.raises(DefinitionError) as caught:
        read("a: 1\na: 2\nb: !!python/name:os.system ''\n")
    assert len(caught.value.problems) == 2


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe9\n")
    for path in (tmp_path / "absent.yaml", tmp_path, tmp_path / "latin.yaml"):
        with pytest.raises(DefinitionError, match="cannot be read") as caught:
            read_document(path)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize(("text", "line"), [('a: 1\nb: "\\ud83d\\udc4d"\n', 2), ('"\\udc4d": 1\n', 1)])
def test_half_a_character_is_refused_with_its_line(read, text, line):
    with pytest.raises(DefinitionError, match=rf":{line}: has half of a character"):
        read(text)

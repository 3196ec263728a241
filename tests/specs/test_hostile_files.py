"""Definition files that would exhaust memory, hide an edit, or take a command down: one line each."""

from pathlib import Path

import pytest

from ema_lab.errors import DefinitionError, SpecError
from ema_lab.specs.document import MAX_BYTES, read_document
from ema_lab.specs.scalar import read_scalar


@pytest.fixture
def refusal(tmp_path):
    """Return a function that writes a file and returns the one line that refuses it."""

    def read(text):
        path = tmp_path / "a.yaml"
        path.write_text(text, encoding="utf-8")
        with pytest.raises(DefinitionError) as caught:
            read_document(path)
        [problem] = caught.value.problems
        return str(problem).removeprefix(str(path))

    return read


def bomb(open_: str, close: str, item: str) -> str:
    """Nine levels of ten aliases each: a thousand million values in a few lines."""
    lines = [f"a0: &a0 {open_}{', '.join(item.format(i=i, of='x') for i in range(10))}{close}"]
    for level in range(1, 10):
        items = ", ".join(item.format(i=i, of=f"*a{level - 1}") for i in range(10))
        lines.append(f"a{level}: &a{level} {open_}{items}{close}")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(("open_", "close", "item"), [("[", "]", "{of}"), ("{", "}", "k{i}: {of}")])
def test_an_alias_bomb_is_refused(refusal, open_, close, item):
    assert "has more than 200,000 values (each use of an alias counts)" in refusal(bomb(open_, close, item))


def test_a_large_file_is_not_read(refusal):
    assert refusal("#" * (MAX_BYTES + 1)) == ": is larger than 16 MiB"


NO_VALUES = [
    "!!timestamp foo",
    "!!timestamp 2024-01-01",
    '!!float ""',
    '!!int ""',
    "!!null x",
    '!!bool ""',
    "!!binary '?'",
    "!!value =",
    "!!merge <<",
    "!x y",
    "9" * 5000,
    "1e999",
    "-1" + "0" * 400,
]


def test_a_word_without_a_value_is_one_short_line(refusal):
    for value in NO_VALUES:
        line = refusal(f"a: 1\nb: {value}\n")
        assert line.startswith(":2: ")
        assert "\n" not in line
        assert len(line) < 200


@pytest.mark.parametrize("text", ["9" * 5000, "1e999", "-" + "9" * 400])
def test_a_word_of_the_command_line_that_is_no_number_is_one_short_line(text):
    with pytest.raises(SpecError, match="is too large for a number") as caught:
        read_scalar(text)
    assert len(str(caught.value)) < 200


HIDDEN = [
    (r"\e[31m", "\\x1b"),
    (r"\r", "\\r"),
    (r"\0", "\\x00"),
    (r"\x9b", "\\x9b"),
    (r"\u202e", "\\u202e"),
    (r"\u2066", "\\u2066"),
    (r"\u200b", "\\u200b"),
    (r"\L", "\\u2028"),
    (r"\ufeff", "\\ufeff"),
    (r"\U000e0041", "\\U000e0041"),
]


def test_a_character_that_no_reader_sees_is_refused_in_every_word(refusal):
    for escape, shown in HIDDEN:
        for line in ['a: "x{}y"', '"x{}y": 1', 'a: ["x{}y"]', 'a: {{"x{}y": 1}}']:
            found = refusal("first: 1\n" + line.format(escape) + "\n")
            assert found == f":2: has invisible characters: {shown}"


def test_prose_may_have_lines_and_signs_of_every_script(tmp_path: Path):
    text = 'a: |\n  two\n  lines\nb: "ñ 漢字 ± 🧪 γ=0.5 مرحبا"\n'
    (tmp_path / "a.yaml").write_text(text, encoding="utf-8")
    assert read_document(tmp_path / "a.yaml").value["a"] == "two\nlines\n"

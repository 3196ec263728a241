"""Counts agree with their nouns in every message, and long values are shortened."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import ema_lab
from ema_lab.wording import are, number_of, shortened, with_short_values

PACKAGE = Path(ema_lab.__file__).parent
NOUNS = (
    "agent|attempt|block|box|cell|channel|choice|class|comparison|core|detection|difference|effect|epoch|"
    "failure|file|finding|folder|head|image|item|key|label|line|member|metric|model|module|name|number|"
    "parameter|pixel|place|point|problem|record|report|result|round|row|run|seed|site|step|table|task|tensor|"
    "thread|trial|value|worker"
)
COUNTED = re.compile(rf" ((?:[a-z]+ )?(?:{NOUNS})(?:e?s)|boxes|classes)\b")
PLAIN = {  # what stands before the noun is a name, a shape or a limit, not a count
    "{name} images", "{name} labels", "{what} images", "{found} pixels", "{height} pixels",
    "{actual[0]} pixels", "{truth.boxes.shape} boxes", "{truth.classes.shape} classes",
    "{type(target).__name__} runs", "{item} names", "{architecture} names", "{name} over classes",
    "{BANDS[band]} over seeds", "{BANDS[figure.band]} over seeds", "{spec.column} has values",
    "{ablation.name} names", "{self.whole.name} names", "{option} compares trials", "{base} reports",
    "{where} has runs", "{sweep} runs", "{killed} workers", "{facts['tensors']} tensors",
    "{len(row.cells)} cells", "{baseline_name(spec, ablation)} over seeds", "{compared.name} over seeds",
    "{label} over seeds",
    "{', '.join(map(str, sizes))} blocks", "{row['seeds_holm'] or 'more than 10,000'} seeds",
}  # fmt: skip


def uncounted_nouns(source: str) -> Iterator[str]:
    """Yield each `{number} nouns` of a text in which 1 would give `1 nouns`."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.JoinedStr):
            continue
        for value, text in zip(node.values, node.values[1:], strict=False):
            if not isinstance(value, ast.FormattedValue) or not isinstance(text, ast.Constant):
                continue
            match = COUNTED.match(text.value)
            told = f"{{{ast.unparse(value.value)}}}{match[0]}" if match else ""
            is_constant = ast.unparse(value.value).split(" ")[0].replace("_", "").isupper()
            if told and told not in PLAIN and not is_constant:
                yield told


def test_a_noun_that_is_counted_can_be_singular():
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        nouns = list(uncounted_nouns(path.read_text(encoding="utf-8")))
        if nouns:
            found[path.relative_to(PACKAGE).as_posix()] = nouns
    assert found == {}


@pytest.mark.parametrize("source", ["f'{n} runs'", "f'{len(x)} finished trials'", "f'{a:,} classes left'"])
def test_the_search_finds_a_noun_that_is_always_plural(source):
    assert list(uncounted_nouns(source))


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [
        (0, "run", "0 runs"),
        (1, "run", "1 run"),
        (2, "class", "2 classes"),
        (1, "box", "1 box"),
        (3, "box", "3 boxes"),
        (2, "query", "2 queries"),
        (2, "key", "2 keys"),
        (2, "epoch", "2 epochs"),
        (2, "batch", "2 batches"),
        (1200, "distinct run", "1,200 distinct runs"),
        (1.0, "point", "1 point"),
        (0.5, "point", "0.5 points"),
    ],
)
def test_a_number_is_told_with_its_noun(number, noun, text):
    assert number_of(number, noun) == text


def test_verbs_agree():
    assert [are(number) for number in (0, 1, 2)] == ["are", "is", "are"]


def test_a_long_value_keeps_both_ends():
    assert shortened("a" * 200) == "a" * 200
    assert shortened("a" * 5000 + "z") == "a" * 150 + "[... 4,801 characters ...]" + "a" * 49 + "z"


@pytest.mark.parametrize("quote", ["'", '"', ""])
def test_long_values_of_a_message_are_shortened_and_its_words_stay(quote):
    value = "0x" + "f" * 5000
    message = with_short_values(
        f"--only: seed={quote}{value}{quote} is no number; " + "known: 'a', 'b'; " * 40
    )
    assert message.startswith("--only: seed=")
    assert message.endswith("is no number; " + "known: 'a', 'b'; " * 40)
    assert len(message) < 1000
    blanks = with_short_values(f"got '{'a ' * 5000}' here")
    assert blanks.endswith("' here")
    assert len(blanks) < 300

"""Names of rows, axes and labels: each is visible in full and differs from the others."""

import pytest

from ema_lab.errors import DefinitionError
from ema_lab.specs.report import load_report

WRONG = {
    '""': "a name must not be empty",
    '" "': "a name must not be empty",
    '"none "': "a name must not begin or end with a blank",
    '"\\u00a0none"': "a name must not begin or end with a blank",
    '"no\\tne"': "a name must be one line of visible characters, not \\t",
    '"no\\nne"': "a name must be one line of visible characters, not \\n",
}
PLACES = {
    "a variant": "variants:\n  {}: {{}}\n",
    "an axis": "variants: {{a: {{}}}}\naxes:\n  {}: {{x: {{}}}}\n",
    "a label": "variants: {{a: {{}}}}\naxes:\n  size: {{{}: {{}}}}\n",
    "a label of a variant's own axis": "variants:\n  a: {{axes: {{size: {{{}: {{}}}}}}}}\n",
    "a row that leaves something out": "without:\n  {}: {{}}\n",
}


def test_a_name_that_cannot_be_seen_whole_is_refused_with_its_line(load):
    for place in PLACES:
        for name in WRONG:
            with pytest.raises(DefinitionError) as caught:
                load(PLACES[place].format(name))
            text = PLACES[place].format(name)
            line = load.first_line + text.partition(name)[0].count("\n")
            assert f":{line}: " in str(caught.value)
            assert WRONG[name] in str(caught.value)
            assert "[key]" not in str(caught.value)
            assert str(caught.value).replace("\u00a0", " ").isprintable(), (
                "one line, and nothing hidden in it"
            )


@pytest.mark.parametrize("other", ["n\u043ene", "\uff4eone", "no\u0301ne no\u0301ne", "a-b c"])
def test_names_that_look_alike_are_refused(load, other):
    twin = {"no\u0301ne no\u0301ne": "n\u00f3ne  n\u00f3ne", "a-b c": "a\u2013b c"}.get(other, "none")
    with pytest.raises(DefinitionError, match="look the same in print: rename one of them"):
        load(f'variants:\n  "{twin}": {{}}\n  "{other}": {{}}\n')


def test_names_that_differ_in_print_stand_side_by_side(load):
    names = ["se", "SE", "none", "no ne", "se2", "漢字", "γ=0.5"]
    ablation = load("variants:\n" + "".join(f'  "{name}": {{}}\n' for name in names))
    assert list(ablation.rows()) == names


def test_no_baseline_beside_a_variant_named_null_is_refused(load):
    text = "variants: {{null: {{}}, se: {{model.attention: se}}}}\n{}"
    rule = "null means no baseline, but a variant is named 'null'"
    with pytest.raises(DefinitionError, match=rule):
        load(text.format("baseline: null\n"))
    assert load(text.format('baseline: "null"\n')).baseline == "null"
    assert load(text.format("")).baseline is None


@pytest.mark.parametrize(
    "text", ['names: {se: "SE "}\n', 'ablations: {"": x}\nkind: datasets\n', 'parts: {"a ": [b]}\n']
)
def test_names_of_a_report_are_held_to_the_same_rule(tmp_path, text):
    path = tmp_path / "r.yaml"
    path.write_text(f"name: r\nablation: tiny\n{text}")
    with pytest.raises(DefinitionError, match=r"r\.yaml:3: .*a name must not"):
        load_report(path)

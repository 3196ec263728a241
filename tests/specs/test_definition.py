"""A definition is found as a path, below the current folder, or among the bundled ones; in this order."""

import pytest

from ema_lab.ablation.ablation import load_ablation
from ema_lab.errors import DefinitionError, UnknownNameError
from ema_lab.specs.definition import BUNDLED, definitions, find_definition
from ema_lab.specs.report import load_report
from ema_lab.workflow.publish.report import find_report

TEXT = """\
name: mine
base: {model: {backbone: resnet20}, data: {name: digits}, recipe: {use: digits-quick}}
seeds: [0]
variants: {none: {model.attention: none}}
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ablations" / "recipes").mkdir(parents=True)
    return tmp_path


def test_a_path_is_taken_as_it_is(here):
    (here / "mine.yaml").write_text(TEXT)
    assert load_ablation("mine.yaml").name == "mine"
    assert load_ablation(here / "mine.yaml").name == "mine"


def test_a_name_is_found_below_the_current_folder(here):
    (here / "ablations" / "mine.yaml").write_text(TEXT)
    assert load_ablation("mine").path.resolve() == here / "ablations" / "mine.yaml"


def test_a_bundled_name_is_found_from_anywhere(here):
    assert load_ablation("quickstart").path == BUNDLED / "ablations" / "quickstart.yaml"
    assert find_definition("ablations/recipes", "cifar-200").is_file()
    assert find_definition("reports", "quickstart").is_file()


def test_one_below_the_current_folder_hides_a_bundled_one(here):
    (here / "ablations" / "quickstart.yaml").write_text(TEXT.replace("mine", "quickstart"))
    assert len(load_ablation("quickstart").cells) == 1
    assert not definitions("ablations")["quickstart"].is_relative_to(BUNDLED)


@pytest.mark.parametrize(
    ("kind", "name", "words"),
    [
        ("ablations", "quikstart", "no ablation is named 'quikstart'; did you mean 'quickstart'?"),
        ("ablations/recipes", "cifar-20", "no recipe is named 'cifar-20'; did you mean 'cifar-200'?"),
        ("reports", "quikstart", "no report is named 'quikstart'; did you mean 'quickstart'?"),
        ("ablations", "ablations/quikstart.yaml", "ablations/quikstart.yaml: no such file"),
    ],
)
def test_a_name_that_is_nowhere_names_the_nearest(here, kind, name, words):
    with pytest.raises(UnknownNameError) as caught:
        find_definition(kind, name)
    assert words in str(caught.value)


@pytest.mark.parametrize("find", [lambda name: find_definition("ablations", name), find_report])
def test_a_file_beside_the_folder_of_its_kind_is_pointed_out(here, find):
    (here / "mine.yaml").write_text(TEXT)
    with pytest.raises(UnknownNameError, match=r"is named 'mine'; did you mean the file mine\.yaml\?"):
        find("mine")


def test_the_name_inside_equals_the_file_name(here):
    (here / "other.yaml").write_text(TEXT)
    with pytest.raises(
        DefinitionError, match=r"other\.yaml:1: name: must equal the file's name 'other', got 'mine'"
    ):
        load_ablation("other.yaml")


def test_a_report_is_held_to_the_same_rule(here):
    (here / "other.yaml").write_text("name: mine\nablation: quickstart\n")
    with pytest.raises(DefinitionError, match="must equal the file's name"):
        load_report(here / "other.yaml")


def test_a_report_with_several_mistakes_names_them_all(here):
    (here / "r.yaml").write_text(
        "name: r\nablation: quickstart\ncolumns: [top1, top9]\ndigits: 7\ntitel: x\n"
    )
    with pytest.raises(DefinitionError) as caught:
        load_report(here / "r.yaml")
    text = str(caught.value)
    assert "r.yaml:3: columns.1" in text
    assert "r.yaml:4: digits" in text
    assert "r.yaml:5: titel: no key is named 'titel'; did you mean 'title'?" in text


@pytest.mark.parametrize("name", definitions("reports"))
def test_every_bundled_report_is_of_a_bundled_ablation(name):
    spec = load_report(definitions("reports")[name])
    named = [*([spec.ablation] if spec.ablation else []), *spec.ablations.values()]
    assert set(named) <= set(definitions("ablations"))
    assert named or spec.published in definitions("reports/published")

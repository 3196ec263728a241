"""Options are read from source, without importing it; the registry looks names up and checks them."""

import re
import sys
from pathlib import Path
from typing import Literal

import pytest
from pydantic import ValidationError

from ema_lab.errors import SpecError, UnknownNameError
from ema_lab.registry.catalogue import ATTENTIONS, BACKBONES, DATASETS
from ema_lab.registry.registry import Entry, Registry, unknown_name
from ema_lab.registry.signature import REQUIRED, defining_target, read_signature, source_file


def test_a_name_is_followed_to_where_it_is_defined(tmp_path, monkeypatch):
    package = tmp_path / "followed_package"
    package.mkdir()
    (package / "__init__.py").write_text("from .inner import make as Gate\n")
    (package / "inner.py").write_text("from followed_package.deep import make\n")
    (package / "deep.py").write_text("def make(channels, *, groups: int = 2):\n    return channels\n")
    (tmp_path / "followed_round.py").write_text("from followed_trip import Round\n")
    (tmp_path / "followed_trip.py").write_text("from followed_round import Round\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert defining_target("followed_package:Gate") == "followed_package.deep:make"
    assert list(ATTENTIONS.options("followed_package:Gate")) == ["groups"]
    assert ATTENTIONS["followed_package:Gate"].load()(3) == 3
    with pytest.raises(SpecError, match=r"'followed_round:Round' has circular imports"):
        defining_target("followed_round:Round")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("x = \0", r"odd_source_of_test\.py: source code .*null bytes"),
        ("\n)", r"odd_source_of_test\.py:2: unmatched"),
    ],
)
def test_a_file_that_is_no_python_is_reported_with_its_line_if_known(tmp_path, monkeypatch, code, message):
    (tmp_path / "odd_source_of_test.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SpecError, match=message):
        ATTENTIONS.options("odd_source_of_test:Gate")


def test_code_that_fails_to_import_is_reported_with_its_place(tmp_path, monkeypatch):
    (tmp_path / "wrong_import_of_test.py").write_text("class Gate:\n    pass\n\n\nraise SystemExit(3)\n")
    monkeypatch.syspath_prepend(tmp_path)
    message = r"wrong_import_of_test:Gate cannot be imported: SystemExit: 3 \(wrong_import_of_test.py:5\)"
    with pytest.raises(SpecError, match=message):
        ATTENTIONS["wrong_import_of_test:Gate"].load()


SOURCE = '''\
"""The module's text."""

raise RuntimeError("imported")


class Gate:
    """The class's text.

    Args:
        channels: Channels of the input.
        groups: How many groups,
            over two lines.
        mode: Which way.

    Raises:
        ValueError: Never.
    """

    def __init__(
        self, channels: int, *, groups: int = 32, mode: Literal["a", "b"] = "a", scale: float
    ) -> None:
        pass


def function(*, width: int | None = None):
    """Text."""


class Bare:
    pass
'''


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a module into the current folder and return the name under which its parts are found."""
    monkeypatch.chdir(tmp_path)

    def module(text, name="mine_for_test"):
        tmp_path.joinpath(f"{name}.py").write_text(text)
        return name

    return module


HOSTILE = [
    "TRAP",
    "Literal[TRAP]",
    "Literal[[TRAP for _ in 'x'][0]]",
    """Literal['\\'"', [c for c in ().__class__.__base__.__subclasses__()][0], TRAP, '"\\'']""",
    "dict[str, TRAP]",
    "int | TRAP",
    "(b := TRAP)",
    'f"{TRAP}"',
    "(lambda: TRAP)()",
    "typing.__builtins__['exec']",
    "Literal['x'].__class__",
]


class TestSignature:
    def test_is_read_without_running_the_module(self, module):
        signature = read_signature(f"{module(SOURCE)}:Gate")
        assert signature.module_doc == "The module's text."
        assert signature.doc.startswith("The class's text.")
        assert "mine_for_test" not in sys.modules

    def test_lists_the_keyword_only_parameters_with_all_that_is_said_about_them(self, module):
        options = read_signature(f"{module(SOURCE)}:Gate").options
        assert {name: (o.type, o.default, o.meaning) for name, o in options.items()} == {
            "groups": (int, 32, "How many groups, over two lines."),
            "mode": (Literal["a", "b"], "a", "Which way."),
            "scale": (float, REQUIRED, ""),
        }

    def test_of_a_function_or_a_bare_class_is_read_too(self, module):
        name = module(SOURCE)
        assert read_signature(f"{name}:function").options["width"].type == int | None
        assert read_signature(f"{name}:Bare").options == {}

    def test_is_read_again_when_the_file_changes(self, module):
        name = module("def f(*, a: int = 1): ...\n")
        assert read_signature(f"{name}:f").options["a"].default == 1
        module("def f(*, a: int = 2, b: int = 3): ...\n")
        assert list(read_signature(f"{name}:f").options) == ["a", "b"]

    @pytest.mark.parametrize(
        ("text", "target", "words"),
        [
            ("def f(**rest): ...\n", "f", "**rest would accept options and ignore them"),
            (
                "def f(*, a: int = len('x')): ...\n",
                "f",
                "option 'a' cannot be an option: its default must be a literal",
            ),
            ("def f(*, a: Tensor = None): ...\n", "f", "option 'a' has the type Tensor, but only"),
            ("def f(:\n", "f", "mine_for_test.py:1"),
            ("x = 1\n", "f", "defines no class or function 'f'; it defines none"),
            ("def gate(): ...\n", "gaet", "defines no class or function 'gaet'; did you mean 'gate'?"),
            ("def gate(): ...\n", "x", "defines no class or function 'x'; it defines gate"),
            ("x = 1\n", "f g", "must have the form package.module:Name"),
            ("x = 1\n", "", "must have the form package.module:Name"),
        ],
    )
    def test_that_cannot_be_checked_is_an_error(self, module, text, target, words):
        name = module(text)
        with pytest.raises(SpecError) as caught:
            read_signature(f"{name}:{target}")
        assert words in str(caught.value)

    def test_of_a_module_that_is_nowhere_is_an_error(self, module):
        with pytest.raises(SpecError, match="no Python module 'not_there_for_test'"):
            source_file("not_there_for_test")

    def test_lists_the_other_parameters_without_self(self, module):
        name = module(SOURCE)
        found = [read_signature(f"{name}:{part}") for part in ("Gate", "function", "Bare")]
        assert [one.positional for one in found] == [("channels",), (), ()]
        assert [one.inherits for one in found] == [False, False, True]

    @pytest.mark.parametrize(
        ("annotation", "expected"),
        [
            ("int | None", int | None),
            ("Optional[int]", int | None),
            ("typing.Union[int, str, None]", int | str | None),
            ("Literal['a', -1, None]", Literal["a", -1, None]),
            ("tuple[int, ...] | float", tuple[int, ...] | float),
            ("dict[str, list[int]]", dict[str, list[int]]),
        ],
    )
    def test_knows_the_forms_of_types(self, module, annotation, expected):
        name = module(f"def f(*, a: {annotation} = 1): ...\n")
        assert read_signature(f"{name}:f").options["a"].type == expected

    @pytest.mark.parametrize("after", ["", "channels, "], ids=["keyword", "positional"])
    @pytest.mark.parametrize("annotation", HOSTILE)
    def test_runs_nothing_that_an_annotation_says(self, module, tmp_path, annotation, after):
        trap = tmp_path / "ran"
        text = annotation.replace("TRAP", f"open({str(trap)!r}, 'w')")
        name = module(f"def f({after or '*, '}a: {text} = 0): ...\n")
        registry = Registry("thing", {})
        with pytest.raises(SpecError, match="option 'a'"):
            registry.check(f"{name}:f", {"a": 1})
        assert not trap.exists()

    @pytest.mark.parametrize(
        "text",
        ["list[" * 250 + "int" + "]" * 250, "int|" * 20_000 + "int"],
        ids=["brackets", "unions"],
    )
    def test_of_a_bomb_is_one_line(self, module, text):
        with pytest.raises(SpecError) as caught:
            read_signature(f"{module(f'def f(*, a: {text}): ...')}:f")
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 400


class TestEveryRegisteredName:
    names = [(registry, name) for registry in (ATTENTIONS, BACKBONES, DATASETS) for name in registry]

    def test_says_what_it_is(self):
        mute = [
            f"{registry.kind} {name}" for registry, name in self.names if not registry.signature(name).doc
        ]
        assert mute == []

    def test_has_options_whose_defaults_fit_their_types(self):
        found = {f"{registry.kind} {name}": self.problem(registry, name) for registry, name in self.names}
        assert {name: problem for name, problem in found.items() if problem} == {}

    @staticmethod
    def problem(registry, name):
        """Return what is wrong with the defaults of a name's options, or nothing."""
        options = registry.options(name)
        wrapped = {"of": {"name": "se"}} if "of" in options else {}
        defaults = {key: option.default for key, option in options.items()} | wrapped
        if REQUIRED in defaults.values():
            return f"an option without a default: {defaults}"
        try:
            kept = registry.check(name, defaults)
        except (SpecError, ValidationError) as error:
            return str(error)
        return "" if kept == wrapped else f"defaults that are not left out: {kept}"


class TestRegistry:
    def test_names_the_nearest_for_an_unknown_name(self):
        with pytest.raises(UnknownNameError, match="no attention is named 'cbma'; did you mean 'cbam'"):
            ATTENTIONS["cbma"]

    def test_knows_its_names_in_order(self):
        assert list(Registry("thing", {"b": "m:B", "a": "m:A"})) == ["a", "b"]

    def test_understands_a_path_to_a_users_own_code(self, module):
        name = module(
            "def width(channels, *, times: int = 2):\n    return channels * times\n", "own_for_test"
        )
        registry = Registry("thing", {})
        assert registry.check(f"{name}:width", {"times": 3}) == {"times": 3}
        assert registry.build(f"{name}:width", 4, times=3) == 12

    @pytest.mark.parametrize("part", ["Positional", "Inherited"])
    @pytest.mark.parametrize(
        ("option", "words"),
        [
            ("ratio", "the parameter 'ratio' has no type: write it as `ratio: int = 4`"),
            ("norm", "the parameter 'norm' cannot be an option: its default must be a literal"),
            ("channels", "the parameter 'channels' is passed by its position"),
        ],
    )
    def test_says_why_a_parameter_is_no_option(self, module, part, option, words):
        head = "    def __init__(self, channels: int, ratio=4, norm: int = len('x')):\n"
        text = f"class Positional:\n{head}        self.ratio = ratio\n"
        name = module(text + "\n\nclass Inherited(Positional):\n    pass\n")
        registry = Registry("thing", {})
        place = r" \(.*mine_for_test\.py:2\)$"
        rule = re.escape(f"thing '{name}:{part}' has no option '{option}': {words}") + place
        with pytest.raises(SpecError, match=rule):
            registry.check(f"{name}:{part}", {option: 8})
        with pytest.raises(SpecError, match=rule):
            registry.build(f"{name}:{part}", 64, **{option: 8})
        assert registry.check(f"{name}:{part}", {}) == {}
        sys.path.append(str(Path.cwd()))
        assert registry.build(f"{name}:{part}", 64).ratio == 4

    def test_takes_typed_positional_parameters_and_those_of_a_base_class_as_options(self, module):
        text = (
            "class Gate:\n"
            "    def __init__(self, channels: int, ratio: int = 4, sizes: list[int] = [1]):\n"
            "        self.ratio, self.sizes = ratio, sizes\n"
        )
        name = module(text + "\n\nclass Child(Gate):\n    pass\n", "typed_for_test")
        registry = Registry("thing", {})
        sys.path.append(str(Path.cwd()))
        for part in ("Gate", "Child"):
            assert list(registry.options(f"{name}:{part}")) == ["ratio", "sizes"]
            assert registry.check(f"{name}:{part}", {"ratio": 8, "sizes": [1]}) == {"ratio": 8}
            assert registry.build(f"{name}:{part}", 64, ratio=8).ratio == 8
            with pytest.raises(ValidationError):
                registry.check(f"{name}:{part}", {"ratio": "8"})

    def test_needs_a_type_for_what_has_no_default(self, module):
        name = module("class Gate:\n    def __init__(self, channels, ratio): ...\n", "needed_for_test")
        with pytest.raises(SpecError, match="cannot be built: the parameter 'ratio' has no type"):
            Registry("thing", {}).check(f"{name}:Gate", {})

    def test_hides_what_a_name_already_fixes(self, module):
        name = module(
            "def width(*, times: int = 2, more: int = 0):\n    return times + more\n", "fixed_for_test"
        )
        registry = Registry("thing", {"three": Entry(f"{name}:width", {"times": 3})})
        assert list(registry.options("three")) == ["more"]
        assert registry.build("three", more=1) == 4
        with pytest.raises(SpecError, match="no option of thing 'three' is named 'times'"):
            registry.build("three", times=1)

    def test_takes_options_strictly(self):
        for options in ({"groups": "8"}, {"groups": 8.0}, {"groups": True}, {"grups": 8}):
            with pytest.raises(ValidationError):
                ATTENTIONS.check("ema", options)

    def test_leaves_out_options_at_their_default(self):
        assert ATTENTIONS.check("ema", {"groups": 32}) == {}
        assert ATTENTIONS.check("ema", {"groups": 8}) == {"groups": 8}

    def test_says_so_where_there_is_nothing_to_choose_from(self):
        assert unknown_name("option", "x", []) == "no option is named 'x'; known: none"

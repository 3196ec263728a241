"""Syntax hashes ignore how code is written and follow what it does."""

import pytest

from ema_lab.store.imports import PACKAGE_FOLDER, imported_names
from ema_lab.store.syntax import package_hash, package_syntax, syntax_hash

CODE = '''\
"""A module."""

import math


class Gate:
    """A class."""

    scale: float = 1.0

    def __call__(self, x, *, power=2):
        """A method."""
        # a comment
        return math.exp(x) ** power if x > 0 else self.scale
'''


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""A module."""\n', ""),
        ('"""A module."""', '"""Another text."""'),
        ('    """A class."""\n', ""),
        ('"""A method."""', "'''A method,\n\n        at length.'''"),
        ("        # a comment\n", ""),
        ("# a comment", "# another comment, which is longer"),
        ("math.exp(x) ** power", "math.exp( x )**power"),
        ("math.exp(x) **", "(math.exp(x)) **"),
        ("(self, x, *, power=2)", "(\n        self,\n        x,\n        *,\n        power=2,\n    )"),
        ("\n\n\n", "\n\n"),
    ],
)
def test_comments_docstrings_and_formatting_change_nothing(old, new):
    assert old in CODE
    assert syntax_hash(CODE.replace(old, new)) == syntax_hash(CODE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("power=2", "power=3"),
        ("power=2", "power=2.0"),
        ("power=2", "power=True"),
        ("x > 0", "x >= 0"),
        ("self.scale", "-self.scale"),
        ("scale: float = 1.0", "scale: float"),
        ("*, power", "power"),
        ("math.exp", "math.exp2"),
        ("class Gate", "class Door"),
        ("import math", "import cmath as math"),
        ("        return", '        "a statement"\n        return'),
    ],
)
def test_code_changes_the_hash(old, new):
    assert old in CODE
    assert syntax_hash(CODE.replace(old, new)) != syntax_hash(CODE)


def test_the_hash_of_a_source_is_stable():
    assert syntax_hash("x = 1\n")[:16] == "bc3f5e2d7cfa25a4"


PACKAGE_CODE = """\
import logging
from typing import TYPE_CHECKING

from ema_lab.profiling.measure import measure_cost
from ema_lab.data.images import crop as cut

if TYPE_CHECKING:
    from ema_lab.models.build import build_model

logger = logging.getLogger(__name__)


def scaled(x, factor=2):
    from ema_lab.models.build import build_model

    if factor > 9:
        raise ValueError(f"too large: {factor}", "really")
    assert x, "nothing"
    logger.warning("scaled by %s", factor)
    return cut(x) * factor


TABLE = {"scaled": "ema_lab.models.scaled:Scaled"}
"""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("ema_lab.profiling.measure", "ema_lab.run.measure"),
        ("from ema_lab.data.images", "from .images"),
        ("    from ema_lab.models.build import build_model\n\nlogger", "    pass\n\nlogger"),
        (
            "    from ema_lab.models.build import build_model\n\n    if",
            "    from ..build import build_model\n\n    if",
        ),
        (
            "from ema_lab.profiling.measure import measure_cost\n"
            "from ema_lab.data.images import crop as cut\n",
            "from ema_lab.data.images import crop as cut\nfrom ema_lab.other.measure import measure_cost\n",
        ),
        ('f"too large: {factor}", "really"', '"much too large", f"{factor}"'),
        ('assert x, "nothing"', "assert x"),
        ('"scaled by %s"', '"was scaled by %s"'),
        ("ema_lab.models.scaled:Scaled", "ema_lab.attention.new.scaled:Scaled"),
    ],
)
def test_in_the_package_neither_the_place_nor_the_words_of_errors_count(old, new):
    assert old in PACKAGE_CODE
    changed = PACKAGE_CODE.replace(old, new)
    assert package_hash(changed) == package_hash(PACKAGE_CODE)
    assert syntax_hash(changed) != syntax_hash(PACKAGE_CODE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("factor=2", "factor=3"),
        ("factor > 9", "factor > 8"),
        ("raise ValueError(", "raise TypeError("),
        ("assert x,", "assert not x,"),
        ("crop as cut", "resize as cut"),
        ("import measure_cost", "import measure_layers"),
        ("import logging\n", "import logging\nimport warnings\n"),
        (":Scaled", ":Other"),
        ('"scaled": ', '"scale": '),
        ("if TYPE_CHECKING:", "if not TYPE_CHECKING:"),
    ],
)
def test_in_the_package_what_the_code_does_counts(old, new):
    assert old in PACKAGE_CODE
    assert package_hash(PACKAGE_CODE.replace(old, new)) != package_hash(PACKAGE_CODE)


def test_the_hash_of_a_file_of_the_package_is_stable():
    """Another hash would make every stored result stale."""
    assert package_hash(PACKAGE_CODE)[:16] == "48ed1d68ffe76677"
    assert package_hash(MANY_FORMS)[:16] == "4f96467eb693e4e8"


MANY_FORMS = '''\
if TYPE_CHECKING:
    import typing
else:
    import ema_lab.errors, math as m
"""A docstring after the imports, which are gone."""
from .near import thing as other

def f(a: "text" = ..., /, *names, **more) -> None:
    from ema_lab.errors import SpecError
    """Also a docstring."""
    global G
    assert a, f"{a!r} of {'ema_lab.models.scaled:Scaled'}"
    log(f"{a:>{3}} ema_lab.models.scaled:Scaled", {None: 1, **more}, b"bytes", 1j, None)
    logging.getLogger("x").warning(f"{a}", extra="e", key=lambda: "l")
    raise SpecError(f"no {a}", "text", 3) from KeyError("k")
'''


def test_the_imports_of_a_file_of_the_package_are_those_of_any_file():
    for path in sorted((PACKAGE_FOLDER / "store").glob("*.py")):
        text = path.read_text(encoding="utf-8")
        assert sorted(package_syntax(text)[1]) == sorted(imported_names(text))
    assert sorted(package_syntax(MANY_FORMS)[1]) == sorted(imported_names(MANY_FORMS))
    assert (0, "ema_lab.models.scaled") in imported_names(MANY_FORMS)
    assert (0, "typing") not in imported_names(MANY_FORMS)

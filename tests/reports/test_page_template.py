"""The page's template is current: built from the sources in `frontend/`, whole, and with its licences."""

import hashlib
import json
import re

import pytest
from pages import ROOT

from ema_lab.reports.page.page import PLACES, template

FRONTEND = ROOT / "frontend"
ALONE = ("build.mjs", "package-lock.json", "package.json", "tsconfig.json")


def sources_hash() -> str:
    """Return the hash that `frontend/build.mjs` writes into the page."""
    sources = [path for path in (FRONTEND / "src").rglob("*") if path.suffix in {".ts", ".css", ".html"}]
    names = sorted([*ALONE, *(path.relative_to(FRONTEND).as_posix() for path in sources)])
    hashes = {name: hashlib.sha256((FRONTEND / name).read_bytes()).hexdigest() for name in names}
    return hashlib.sha256("".join(f"{hashes[name]}  {name}\n" for name in names).encode()).hexdigest()


def test_the_built_page_is_that_of_the_sources():
    [written] = re.findall(r'<meta name="ema-lab-page" content="(\w+)">', template())
    assert written == sources_hash(), "frontend/ has changed: run `make page` and commit the built page"


def test_the_built_page_was_not_edited_by_hand():
    above, _, last = template().rpartition("<!-- sha256 of the lines above: ")
    assert last == f"{hashlib.sha256(above.encode()).hexdigest()} -->\n"


def test_it_has_each_place_that_python_fills():
    assert sorted(PLACES.findall(template())) == ["data", "kind", "live", "tables", "title", "title"]


@pytest.mark.parametrize("name", ["echarts", "zrender", "@tanstack/table-core", "tslib"])
def test_it_keeps_the_licence_of_each_library(name):
    version = json.loads((FRONTEND / "package-lock.json").read_text())["packages"][f"node_modules/{name}"][
        "version"
    ]
    assert f"\n{name} {version} (" in template() or f">{name} {version} (" in template()
    for words in ("Apache License", "Permission is hereby granted", "Redistribution and use in source"):
        assert words in template()


def test_the_lock_file_names_no_registry():
    lock = json.loads((FRONTEND / "package-lock.json").read_text())
    packages = {name: package for name, package in lock["packages"].items() if name}
    assert [name for name, package in packages.items() if "resolved" in package] == []
    assert [name for name, package in packages.items() if "integrity" not in package] == []

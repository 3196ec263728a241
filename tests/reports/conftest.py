"""Fixtures: a bundle, made once for all tests of a process."""

import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bundles import bundle
from tiny import TINY_REPORT

FIGURE = "figures:\n  - {kind: forest, name: differences}\n"


@pytest.fixture(scope="session")
def bundle_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder that keeps what `bundled` makes: each test gets a copy."""
    return tmp_path_factory.mktemp("bundle") / "made"


@pytest.fixture
def bundled(trained: Callable[..., list[str]], bundle_folder: Path) -> Path:
    """Return the unpacked bundle of the tiny report, `paper`, beside `paper.zip`."""
    if bundle_folder.exists():
        shutil.copytree(bundle_folder, ".", dirs_exist_ok=True)
        return Path("paper")
    Path("reports/tiny.yaml").write_text(TINY_REPORT + FIGURE)
    trained()
    bundle()
    with zipfile.ZipFile("paper.zip") as archive:
        archive.extractall("paper")
    shutil.copytree(".", bundle_folder)
    return Path("paper")


@pytest.fixture
def painted_once(bundled: Path, bundle_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paint the one figure of `bundled` as it was: painting takes most of a check."""
    painted = bundle_folder / "paper" / "report" / "figures"
    monkeypatch.setattr(
        "ema_lab.reports.figures.style.picture",
        lambda _figure, suffix: (painted / f"differences.{suffix}").read_bytes(),
    )


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium without a window, for tests marked `system`."""
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
    driver.set_window_size(1200, 1400)
    yield driver
    driver.quit()

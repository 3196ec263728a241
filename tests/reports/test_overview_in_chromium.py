"""The overview in a real browser: its lists, its links, its changes while it is open."""

import json
import sys
from pathlib import Path

import pytest
from chromium import all_of, errors, one, plotted
from pages import ROOT
from test_page import failing, served, with_curve
from tiny import TINY, fake_outcome, rates

from ema_lab.reports.page.site import Site
from ema_lab.store.store import RunStore

pytestmark = pytest.mark.system


@pytest.fixture
def shown(trained, browser):
    """Serve a store with two ablations and a failure; return a function that opens a path."""
    text = TINY.replace("name: tiny", "name: other").replace("epochs: 1", "epochs: 2")
    Path("ablations/other.yaml").write_text(text)
    trained(train=failing)
    with served(Site({}, RunStore("runs"), whole=True)) as ask:

        def opened(path="/"):
            browser.get(f"http://127.0.0.1:{ask.port}{path}")
            return browser

        yield opened
        assert errors(browser) == []
        browser.get("about:blank")


def until(browser, condition):
    from selenium.common.exceptions import StaleElementReferenceException
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 30, ignored_exceptions=[StaleElementReferenceException]).until(condition)


def rows(page, table):
    return [row.text.replace("\n", " ") for row in all_of(page, f"#{table} tbody tr")]


def serious(page):
    page.execute_script((ROOT / "frontend/node_modules/axe-core/axe.min.js").read_text(encoding="utf-8"))
    script = (
        "const done = arguments[arguments.length - 1]; axe.run().then((found) =>"
        " done(found.violations.filter((one) => ['serious', 'critical'].includes(one.impact))))"
    )
    return [(finding["id"], finding["nodes"][0]["html"]) for finding in page.execute_async_script(script)]


def test_lists_ablations_failures_and_runs(shown):
    page = shown()
    assert one(page, "#standing").text == "Store runs: 2 done, 2 failed"
    [tiny] = rows(page, "ablationlist")
    assert "tiny" in tiny
    assert "2 done, 2 failed" in tiny
    assert "50 % of the epochs" in tiny
    assert "MemoryError: no room" in one(page, "#failurelist").text
    assert "test_page.py:" in one(page, "#failurelist").text
    assert len(rows(page, "recentlist")) == 4
    one(page, "#ablations summary").click()
    assert "4 pending" in one(page, "#newablations").text


def test_no_serious_finding_of_axe(shown):
    page = shown()
    one(page, "#ablations summary").click()
    assert serious(page) == []
    one(page, "#theme").click()
    assert serious(page) == []


def test_links_lead_to_the_pages_and_back(shown):
    page = shown()
    one(page, "#recentlist .id").click()
    until(page, lambda _: one(page, "#run").is_displayed())
    assert one(page, "h1").text == "tiny"
    one(page, "#run form button").click()
    one(page, "#home").click()
    until(page, lambda _: all_of(page, "#ablationlist"))


def test_a_change_is_drawn_in_place_and_choices_stay(shown, trained):
    page = shown()
    for _ in range(2):
        one(page, "#recentlist thead button").click()
    one(page, "#ablations summary").click()
    page.execute_script("window.isSame = true")
    trained("other", keep=lambda spec: spec.seed == 0)
    until(page, lambda _: "4 done" in one(page, "#standing").text)
    assert page.execute_script("return window.isSame")
    assert one(page, "#recentlist thead th").get_attribute("aria-sort") == "descending"
    assert [row.split()[0] for row in rows(page, "recentlist")] == ["se"] * 3 + ["none"] * 3
    trained(train=lambda spec, job: fake_outcome(spec))
    until(page, lambda _: not all_of(page, "#failures"))
    assert len(rows(page, "ablationlist")) == 2


def test_a_run_of_no_ablation_has_a_page(shown, trained):
    run_ids = trained("other", train=with_curve)
    Path("ablations/other.yaml").unlink()
    page = shown(f"/runs/{run_ids[-1]}")
    assert one(page, "h1").text == f"Run {run_ids[-1]}"
    assert one(page, "#standing").text == "done"
    assert "se, seed 1" in one(page, "#onerun").text
    assert all_of(page, "#onerun svg")
    assert serious(page) == []


def test_a_page_says_that_the_server_is_gone_and_goes_on_when_it_is_back(trained, browser):
    trained(keep=lambda spec: spec.seed == 0)
    site = Site({}, RunStore("runs"), whole=True)
    with served(site) as ask:
        port = ask.port
        browser.get(f"http://127.0.0.1:{port}/ablations/tiny")
        assert one(browser, "#standing").text == "2 done, 2 pending of 4 runs"
    until(browser, lambda _: one(browser, "#connection").is_displayed())
    trained()
    with served(Site({}, RunStore("runs"), whole=True), port=port):
        until(browser, lambda _: one(browser, "#standing").text == "4 done of 4 runs")
        until(browser, lambda _: not one(browser, "#connection").is_displayed())
        browser.get("about:blank")
    browser.get_log("browser")  # connections that were refused


def test_fits_a_phone(shown):
    page = shown()
    page.set_window_size(400, 900)
    try:
        assert page.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    finally:
        page.set_window_size(1200, 1400)


@pytest.mark.parametrize("name", ["</script><b>x", "{{data}}"])
def test_no_text_is_read_as_the_pages_own_language(shown, trained, name):
    path = Path("ablations/other.yaml")
    path.write_text(path.read_text().replace("Two rows, two seeds, made-up images.", json.dumps(name)))
    page = shown()
    one(page, "#ablations summary").click()
    assert name in one(page, "#newablations").text


@pytest.fixture
def search_page(folder, browser):
    """Serve a search of two objectives; return the browser on its page, and a function that goes on."""
    sys.path.append(str(ROOT / "tests" / "search"))
    from search_fakes import FakeTrain, run

    from ema_lab.search.objective import read_objectives
    from ema_lab.search.report.pages import SweepPages
    from ema_lab.search.strategy import choose_strategy
    from ema_lab.search.study import Search
    from ema_lab.search.sweep import load_sweep
    from ema_lab.search.trial import Trier

    Path("sweeps").mkdir()
    groups = "  model.attention.reduction: {values: [2, 4, 8]}\n"
    space = "{distribution: log_uniform_values, min: 0.001, max: 1.0}"
    Path("sweeps/rates.yaml").write_text(rates(space, more="run_cap: 12") + groups)

    def search(trials):
        sweep = load_sweep("rates")
        read = read_objectives(sweep, ["top1:max", "macs:min"])
        one = Search(sweep, read, choose_strategy(sweep, read), Path("runs"))
        run(one, Trier(one, FakeTrain(Path("log")), trials, 3))

    search(6)
    store = RunStore("runs")
    with served(Site({}, store, whole=True, sweeps=SweepPages(store))) as ask:
        browser.get(f"http://127.0.0.1:{ask.port}/")
        one(browser, "#sweeplist a").click()
        until(browser, lambda _: all_of(browser, "#triallist"))
        yield browser, search
        assert errors(browser) == []
        browser.get("about:blank")


def test_the_page_of_a_search(search_page):
    page, search = search_page
    assert one(page, "h1").text == "Sweep rates"
    assert one(page, "#standing").text == "6 done of 12 trials"
    assert len(rows(page, "triallist")) == len(plotted(page, "#history")) == 6
    assert len(plotted(page, "#front")) == len(plotted(page, "#trialparallel")) == 6
    best = [row[2] for row in plotted(page, "#history")]
    assert best == sorted(best, key=float)
    one(page, "#objective").send_keys("MACs")
    assert float(plotted(page, "#history")[0][1]) > 0
    assert serious(page) == []
    one(page, "#theme").click()
    assert serious(page) == []
    search(8)
    until(page, lambda _: one(page, "#standing").text == "8 done of 12 trials")
    assert len(rows(page, "triallist")) == 8
    assert one(page, "#objective").get_attribute("value") == "1"
    page.set_window_size(400, 900)
    try:
        assert page.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    finally:
        page.set_window_size(1200, 1400)
    one(page, "#triallist .id").click()
    until(page, lambda _: all_of(page, "#onerun h2"))


def test_costs_of_rows_that_are_not_trained_are_marked(shown, trained):
    path = Path("ablations/other.yaml")
    path.write_text(path.read_text() + "axes: {recipe.label_smoothing: [0.0, 0.1]}\n")
    trained("other", train=with_curve, keep=lambda spec: spec.recipe.label_smoothing == 0)
    page = shown("/ablations/other")
    texts = ["1,000counted", "2.00counted"] * 2
    until(page, lambda _: [cell.text for cell in all_of(page, "td.counted")] == texts)
    assert "not trained" in one(page, "td.counted").get_attribute("title")
    assert serious(page) == []

"""The page in a real browser: it loads without errors, sorts, filters, opens a run, prints, and lives."""

import base64
from pathlib import Path

import pytest
from test_page import page_of, served, site, with_curve  # noqa: F401 (a fixture)
from tiny import fake_outcome

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def browser():
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


def all_of(browser, selector):
    return browser.find_elements("css selector", selector)


def one(browser, selector):
    return browser.find_element("css selector", selector)


@pytest.fixture
def page(command, trained, browser):
    trained(train=with_curve)
    page_of(command)
    browser.get(Path("out/index.html").absolute().as_uri())
    return browser


def errors(browser):
    return [entry for entry in browser.get_log("browser") if entry["level"] in {"SEVERE", "WARNING"}]


def test_loads_without_errors_and_draws(page):
    assert errors(page) == []
    assert one(page, "#standing").text == "4 done of 4 runs"
    assert len(all_of(page, "#scatter g[role=button]")) == 2
    assert len(all_of(page, "#curves path[stroke-width='2']")) == 2
    assert len(all_of(page, "#runtable tbody tr")) == 4


def test_sorts_by_every_column_and_back(page):
    def names():
        return [cell.text for cell in all_of(page, "table.report tbody th")]

    headers = all_of(page, "table.report thead th")
    headers[1].find_element("tag name", "button").send_keys("\n")  # by the keyboard
    assert names() == ["none", "se"]
    assert headers[1].get_attribute("aria-sort") == "ascending"
    headers[1].find_element("tag name", "button").click()
    assert names() == ["se", "none"]
    assert headers[1].get_attribute("aria-sort") == "descending"


def test_lists_the_runs_in_the_order_of_the_rows_and_sorts_them(page):
    def runs():
        return [row.text.split()[:2] for row in all_of(page, "#runtable tbody tr")]

    assert runs() == [["none", "0"], ["none", "1"], ["se", "0"], ["se", "1"]]
    all_of(page, "#runtable thead button")[1].click()
    assert [seed for _, seed in runs()] == ["0", "0", "1", "1"]
    all_of(page, "#runtable thead button")[1].click()
    assert [seed for _, seed in runs()] == ["1", "1", "0", "0"]


def test_filters_rows(page):
    one(page, "#filter").send_keys("se")
    assert [row.is_displayed() for row in all_of(page, "table.report tbody tr")] == [False, True]


def test_opens_the_runs_of_a_cell_and_one_run(page):
    one(page, "table.report tbody tr:nth-child(2) td[data-runs]").send_keys("\n")
    assert one(page, "#run").is_displayed()
    assert one(page, "#runname").text == "2 runs"
    assert "92" in one(page, "#runbody").text
    one(page, "#run form button").click()
    assert not one(page, "#run").is_displayed()
    one(page, "#runtable button[data-open]").click()
    assert "none, seed 0" in one(page, "#runbody").text
    one(page, "#run form button").click()
    assert errors(page) == []


def test_fits_a_phone_and_changes_its_theme(page):
    before = page.execute_script("return getComputedStyle(document.body).backgroundColor")
    one(page, "#theme").click()
    assert page.execute_script("return getComputedStyle(document.body).backgroundColor") != before
    page.set_window_size(400, 900)
    try:
        assert page.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    finally:
        page.set_window_size(1200, 1400)


def test_prints(page):
    assert base64.b64decode(page.print_page()).startswith(b"%PDF")


def test_served_it_refreshes_itself(site, trained, browser):  # noqa: F811
    from selenium.webdriver.support.ui import WebDriverWait

    trained(keep=lambda spec: spec.seed == 0)
    with served(site) as ask:
        browser.get(f"http://127.0.0.1:{ask.port}/tiny")
        assert one(browser, "#standing").text == "2 done, 2 pending of 4 runs"
        for header in ("table.report thead button", "#runtable thead button"):
            one(browser, header).click()
            one(browser, header).click()
        trained(train=lambda spec, job: fake_outcome(spec))
        WebDriverWait(browser, 15).until(lambda _: one(browser, "#standing").text == "4 done of 4 runs")
        assert "92.50" in one(browser, "table.report").text
        for table in ("table.report", "#runtable"):  # what the reader chose stays
            assert one(browser, f"{table} thead th").get_attribute("aria-sort") == "descending"
            assert one(browser, f"{table} tbody th").text == "se"
        assert errors(browser) == []
        browser.get("about:blank")

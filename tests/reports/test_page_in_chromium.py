"""The page in a real browser: it loads without errors, sorts, filters, opens a run, prints, and lives."""

import base64
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from chromium import all_of, errors, one, plotted
from test_page import NASTY, failing, page_of, served, site, with_curve  # noqa: F401 (a fixture)
from tiny import TINY, fake_outcome

from ema_lab.reports.page.site import Site
from ema_lab.specs.report import load_report
from ema_lab.store.store import RunStore

pytestmark = pytest.mark.system


@pytest.fixture
def page(trained, browser):
    trained(train=with_curve)
    page_of()
    browser.get(Path("out/index.html").absolute().as_uri())
    return browser


def test_loads_without_errors_and_draws(page):
    assert errors(page) == []
    assert one(page, "#standing").text == "4 done of 4 runs"
    assert [row[0] for row in plotted(page, "#scatter")] == ["none", "se"]
    assert [row[0] for row in plotted(page, "#curves")] == ["none", "se"]
    assert len(all_of(page, "#scatter svg")) == len(all_of(page, "#curves svg")) == 1
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


def test_filters_rows_and_runs(page):
    one(page, "#filter").send_keys("se")
    assert [row.is_displayed() for row in all_of(page, "table.report tbody tr")] == [False, True]
    assert [cell.text for cell in all_of(page, "#runtable tbody th")] == ["se", "se"]


def test_words_stand_last_in_a_column_of_numbers(page):
    delta = all_of(page, "table.report thead button")[2]
    for _ in range(2):
        delta.click()
        assert [row.text.split()[0] for row in all_of(page, "table.report tbody tr")] == ["se", "none"]


def test_the_scatter_has_the_intervals_and_the_front_of_the_figure(page):
    assert plotted(page, "#scatter") == [
        ["none", "90.50", "84.1469 to 96.8531", "2", "2.00", "no"],
        ["se", "92.50", "86.1469 to 98.8531", "2", "2.00", "yes"],
    ]
    assert len(all_of(page, "#scatter svg path[stroke-dasharray='6,4']")) == 1


def test_a_point_without_an_interval_is_hollow(trained, browser):
    trained(keep=lambda spec: spec.seed == 0)
    page_of()
    browser.get(Path("out/index.html").absolute().as_uri())
    assert len(all_of(browser, "#scatter svg path[fill='#ffffff']")) == 2
    assert [row[2] for row in plotted(browser, "#scatter")] == ["no interval"] * 2


def test_a_hole_and_a_rows_name_open_runs_that_failed(trained, browser):
    trained(train=failing, keep=lambda spec: (spec.model.attention.name, spec.seed) == ("none", 1))
    page_of()
    browser.get(Path("out/index.html").absolute().as_uri())
    assert one(browser, "#standing").text == "4 pending (1 failed before) of 4 runs"
    for opener in ("table.report td.hole button", "table.report tbody th button"):
        one(browser, opener).send_keys("\n")
        assert one(browser, "#runname").text == "2 runs"
        assert "MemoryError: no room" in one(browser, "#runbody").text
        assert "pending, failed once" in one(browser, "#runbody").text
        one(browser, "#run form button").click()
    assert "pending, failed once" in [cell.text for cell in all_of(browser, "#runtable td.pending")]


@pytest.mark.parametrize("name", NASTY)
def test_no_name_is_read_as_the_pages_own_language(trained, browser, name):
    report = {"name": "tiny", "title": name, "ablation": "tiny", "names": {"se": name}}
    Path("reports/tiny.yaml").write_text(json.dumps(report))
    trained()
    page_of()
    browser.get(Path("out/index.html").absolute().as_uri())
    assert errors(browser) == []
    assert one(browser, "h1").text == browser.title == name
    assert all_of(browser, "table.report tbody th")[1].text == name
    assert all_of(browser, "#runtable tbody th")[2].text == name
    assert all_of(browser, "[onfocus]") == []


GROUPED = """\
name: tiny
ablation: tiny
group: recipe.epochs
columns: [top1, delta]
"""


@pytest.fixture
def grouped(trained, browser):
    """Two rows in each of two groups; `none` is the first row of each."""
    Path("ablations/tiny.yaml").write_text(TINY + "axes: {recipe.epochs: [1, 20]}\n")
    Path("reports/tiny.yaml").write_text(GROUPED)
    trained(train=with_curve)
    page_of()
    browser.get(Path("out/index.html").absolute().as_uri())
    return browser


def places(browser):
    """Return each visible row's cells by the left edge of the header that they stand under."""
    script = """
    const left = (node) => Math.round(node.getBoundingClientRect().left);
    const heads = [...document.querySelectorAll('table.report thead th')].map(left);
    return [...document.querySelectorAll('table.report tbody tr')].filter((row) => !row.hidden)
      .map((row) => [...row.cells].map((cell) => [heads.indexOf(left(cell)), cell.innerText, cell.rowSpan]));
    """
    return browser.execute_script(script)


def test_a_group_keeps_its_name_and_columns_when_rows_are_filtered_and_sorted(grouped):
    box = one(grouped, "#filter")
    box.send_keys("se")
    for _ in range(2):
        names = [[cell[:2] for cell in row[:2]] for row in places(grouped)]
        assert names == [[[0, "1"], [1, "se"]], [[0, "20"], [1, "se"]]]
        assert [cell[0] for row in places(grouped) for cell in row] == [0, 1, 2, 3] * 2
        assert [row[0][2] for row in places(grouped)] == [1, 1]
        all_of(grouped, "table.report thead button")[2].click()  # a descending sort moves the group's name
        all_of(grouped, "table.report thead button")[2].click()
    box.clear()
    box.send_keys(" \b")
    names = [[cell[1:] for cell in row[:-2]] for row in places(grouped)]
    assert names == [[["1", 2], ["se", 1]], [["none", 1]], [["20", 2], ["se", 1]], [["none", 1]]]
    assert errors(grouped) == []


def test_a_groups_name_finds_all_of_its_rows(trained, browser):
    more = "  wide: {model.attention: {name: se, reduction: 2}}\n"
    Path("ablations/tiny.yaml").write_text(TINY.replace("  se:", "  narrow:") + more)
    Path("reports/tiny.yaml").write_text(GROUPED.replace("recipe.epochs", "model.attention.name"))
    trained()
    page_of()
    browser.get(Path("out/index.html").absolute().as_uri())
    one(browser, "#filter").send_keys("se")
    assert [[cell[1] for cell in row[:-2]] for row in places(browser)] == [["se", "narrow"], ["wide"]]


def test_groups_are_sorted_by_their_names(grouped):
    header = one(grouped, "table.report thead button")
    for names in (["1", "20"], ["20", "1"]):
        header.click()
        assert [cell.text for cell in all_of(grouped, "table.report th[scope=rowgroup]")] == names
    assert errors(grouped) == []


def test_a_run_of_two_rows_is_drawn_and_listed_for_both(trained, browser):
    Path("ablations/tiny.yaml").write_text(
        f"{TINY}  se again: {{model.attention: {{name: se, reduction: 4}}}}\n"
    )
    trained(train=with_curve)
    page_of()
    browser.get(Path("out/index.html").absolute().as_uri())
    points = [row[:2] for row in plotted(browser, "#scatter")]
    assert points == [["none", "90.50"], ["se", "92.50"], ["se again", "92.50"]]
    assert len(plotted(browser, "#curves")) == 3
    assert [cell.text for cell in all_of(browser, "#runtable tbody th")] == ["none"] * 2 + [
        "se, se again"
    ] * 2
    one(browser, "#filter").send_keys("again")
    assert [cell.text for cell in all_of(browser, "#runtable tbody th")] == ["se, se again"] * 2
    assert errors(browser) == []


def test_a_cell_opens_its_baselines_runs_also_where_their_row_is_not_shown(trained, browser):
    Path("reports/tiny.yaml").write_text("name: tiny\nablation: tiny\nonly: {variant: se}\n")
    trained(train=with_curve)
    page_of()
    browser.get(Path("out/index.html").absolute().as_uri())
    one(browser, "td[data-baseline-runs] button").send_keys("\n")
    titles = [title.text for title in all_of(browser, "#runbody > div > h3")]
    assert titles == ["se, seed 0", "se, seed 1", "none, seed 0", "none, seed 1"]
    assert len(plotted(browser, "#scatter")) == len(all_of(browser, "#legend li")) == 1
    assert errors(browser) == []


def test_a_difference_below_rounding_puts_no_row_on_the_front(trained, browser):
    def rounded(spec, job):
        is_none = spec.model.attention.name == "none"
        top1 = 91.1111111111111 if is_none else 91.11111111111113
        return replace(fake_outcome(spec), metrics={"top1": top1}, cost={"macs": 1000 if is_none else 2000})

    trained(train=rounded)
    page_of()
    browser.get(Path("out/index.html").absolute().as_uri())
    assert [(row[0], row[-1]) for row in plotted(browser, "#scatter")] == [("none", "yes"), ("se", "no")]


def test_thousands_of_runs_are_drawn_in_part_but_sorted_and_found_as_a_whole(page):
    text = Path("out/index.html").read_text()
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])
    made = next(run for run in data["runs"].values() if run["variants"] == ["se"])
    for number in range(600):
        data["runs"][f"more{number:03}"] = made | {"seed": 2 + number}
    text = re.sub(r'(?<=id="data">).*?(?=</script>)', lambda _: json.dumps(data), text, flags=re.DOTALL)
    Path("out/many.html").write_text(text)
    page.get(Path("out/many.html").absolute().as_uri())
    assert len(all_of(page, "#runtable tbody tr")) == 500
    assert one(page, "#more").text == "Show all 604"
    for _ in range(2):
        all_of(page, "#runtable thead button")[1].click()
    assert one(page, "#runtable tbody tr").text.split()[:2] == ["se", "601"]
    one(page, "#more").click()
    assert len(all_of(page, "#runtable tbody tr")) == 604
    assert not one(page, "#more").is_displayed()
    assert errors(page) == []


def test_opens_the_runs_of_a_cell_and_one_run(page):
    one(page, "table.report tbody tr:nth-child(2) td[data-runs] button").send_keys("\n")
    assert one(page, "#run").is_displayed()
    assert one(page, "#runname").text == "2 runs"
    assert "92" in one(page, "#runbody").text
    one(page, "#run form button").click()
    assert not one(page, "#run").is_displayed()
    one(page, "#runtable button[data-open]").click()
    assert "none, seed 0" in one(page, "#runbody").text
    one(page, "#run form button").click()
    assert errors(page) == []


def test_a_dark_page_is_printed_dark_on_white(page):
    page.execute_script("document.documentElement.dataset.theme = 'dark'")
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    colours = page.execute_script(
        "const s = getComputedStyle(document.body); return [s.color, s.backgroundColor]"
    )
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert colours == ["rgb(0, 0, 0)", "rgb(255, 255, 255)"]


def test_fits_a_phone_and_changes_its_theme(page):
    before = page.execute_script("return getComputedStyle(document.body).backgroundColor")
    one(page, "#theme").click()
    assert page.execute_script("return getComputedStyle(document.body).backgroundColor") != before
    page.set_window_size(400, 900)
    try:
        assert page.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    finally:
        page.set_window_size(1200, 1400)


def test_prints_every_column_of_a_wide_table(page):
    page.execute_script(
        "for (const row of document.querySelectorAll('table.report tr'))"
        " for (let i = 0; i < 15; i++) row.append(row.cells[1 + i % 4].cloneNode(true));"
        "document.querySelector('table.report').style.setProperty('--columns', 20)"
    )
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    page.set_window_size(720, 900)  # of a sheet of A4 between its margins
    try:
        assert page.execute_script("return document.documentElement.scrollWidth <= innerWidth")
        texts = all_of(page, "table.report td:nth-child(4)")
        lines = (
            "const range = document.createRange();"
            "range.selectNodeContents(arguments[0].querySelector('button'));"
            "return range.getClientRects().length"
        )
        assert [text.text for text in texts] == ["1,000", "1,000"]
        assert [page.execute_script(lines, text) for text in texts] == [1, 1]
    finally:
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
        page.set_window_size(1200, 1400)
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


def test_served_a_table_that_is_no_longer_made_goes_and_comes_again(site, trained, browser):  # noqa: F811
    from selenium.common.exceptions import StaleElementReferenceException
    from selenium.webdriver.support.ui import WebDriverWait

    Path("ablations/tiny.yaml").write_text(TINY + "axes: {recipe.epochs: [1, 20]}\n")
    grid = "name: tiny\nablation: tiny\nkind: grid\nfactors: [variant, recipe.epochs]\n"
    Path("reports/tiny.yaml").write_text(grid)
    live = Site({"tiny": load_report(Path("reports/tiny.yaml"))}, RunStore("runs"))
    run_ids = trained()

    def shown():
        notes = "".join(note.get_attribute("textContent") for note in all_of(browser, "#tables .notes"))
        return [
            table.get_attribute("id") for table in all_of(browser, "#tables table")
        ], "No effects" in notes

    def wait(tables, none):
        drawn_again = [StaleElementReferenceException]  # the page replaces its tables while they are read
        waiting = WebDriverWait(browser, 15, ignored_exceptions=drawn_again)
        waiting.until(lambda _: shown() == (tables, none))
        assert len(all_of(browser, "#tables .notes")) == len(tables)

    with served(live) as ask:
        browser.get(f"http://127.0.0.1:{ask.port}/tiny")
        wait(["table", "effects", "factors"], False)
        for run_id in run_ids[:2]:  # all of one cell
            shutil.rmtree(RunStore("runs").folder(run_id))
        wait(["table"], True)
        trained()
        wait(["table", "effects", "factors"], False)
        assert errors(browser) == []
        browser.get("about:blank")

"""What a reader does with the page in a browser: hide rows, zoom, overlay, compare, copy, follow a link."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from chromium import all_of, errors, one, plotted
from pages import ROOT
from test_page import page_of, served, site  # noqa: F401 (a fixture)
from tiny import TINY, TINY_REPORT, fake_outcome

pytestmark = pytest.mark.system
CURVE = (
    "epoch,lr,train_loss,val_top1,train_seconds\n"
    "1,0.1,2.5,20.0,1.0\n2,0.1,1.5,40.0,1.0\n3,0.05,0.5,61.126,1.0\n4,0.01,0.4,60.0,1.0\n"
)
FIGURES = "figures:\n  - {kind: forest, name: differences, title: All differences}\n"
WIDE = "columns: [top1, delta, p, effect, parameters, delta_parameters, macs, n]\n"


def with_curve(spec, job):
    (job.folder / "curve.csv").write_text(CURVE)
    return fake_outcome(spec)


@pytest.fixture
def page(trained, browser):
    Path("ablations/tiny.yaml").write_text(TINY + "axes: {recipe.optimizer.lr: [0.001, 0.1]}\n")
    Path("reports/tiny.yaml").write_text(TINY_REPORT + WIDE + FIGURES)
    trained(train=with_curve)
    page_of()
    browser.get(Path("out/index.html").absolute().as_uri())
    yield browser
    assert errors(browser) == []
    browser.get("about:blank")


BOXES = """
const svg = document.querySelector('#scatter svg');
const rows = ['none', 'se', 'eca', 'ca'];
const texts = [...svg.querySelectorAll('text')];
const names = texts.filter((one) => rows.includes(one.textContent)).map((one) => {
  const { top, bottom } = one.getBoundingClientRect();
  return { text: one.textContent, top, bottom };
});
const dashed = [...svg.querySelectorAll('path[stroke-dasharray]')].map((one) => one.getBoundingClientRect());
const ticks = texts.map((one) => Number(one.textContent)).filter((value) => value > 50);
return { names, front: dashed.flatMap(({ top, bottom }) => [top, bottom]), ticks };
"""


def axis_texts(page, plot):
    script = "return [...document.querySelectorAll(arguments[0] + ' svg text')].map((one) => one.textContent)"
    return page.execute_script(script, plot)


def test_asks_for_nothing_but_its_own_pictures(page):
    page.execute_script("document.querySelector('#figures').scrollIntoView()")
    script = "return performance.getEntriesByType('resource').map((one) => one.name)"
    names = {name for name in page.execute_script(script) if not name.startswith("data:")}
    assert names <= {Path("out/figures/differences.svg").absolute().as_uri()}


def test_no_serious_finding_of_axe(page):
    axe = (ROOT / "frontend/node_modules/axe-core/axe.min.js").read_text(encoding="utf-8")
    page.execute_script(axe)
    for prepare in (
        "",
        "document.querySelectorAll('details').forEach((one) => { one.open = true; })",
        "document.querySelector('#theme').click()",
        "document.querySelector('#runtable [data-open]').click()",
    ):
        page.execute_script(prepare)
        found = page.execute_async_script("axe.run().then(arguments[arguments.length - 1])")["violations"]
        serious = [
            (entry["id"], [node["html"][:120] for node in entry["nodes"][:3]])
            for entry in found
            if entry["impact"] in {"serious", "critical"}
        ]
        assert serious == []


def test_a_row_is_hidden_in_every_plot_and_comes_back(page):
    toggle = all_of(page, "#legend button")[0]
    name = toggle.text
    assert name in [row[0] for row in plotted(page, "#scatter")]
    toggle.send_keys("\n")
    for plot in ("#scatter", "#curves"):
        assert len(plotted(page, plot)) == 3
        assert name not in [row[0] for row in plotted(page, plot)]
    hidden = page.switch_to.active_element  # the focus stays where it was
    assert (hidden.text, hidden.get_attribute("aria-pressed")) == (name, "false")
    one(page, "#norows").click()
    assert "No row is shown." in one(page, "#scatter").text
    one(page, "#allrows").click()
    assert len(plotted(page, "#scatter")) == 4


def test_zooms_by_dragging_and_by_buttons(page):
    from selenium.webdriver.common.action_chains import ActionChains

    whole = axis_texts(page, "#curves")
    plot = one(page, "#curves .plot")
    page.execute_script("arguments[0].scrollIntoView({ block: 'center' })", plot)
    drag = ActionChains(page).move_to_element_with_offset(plot, -100, -60).click_and_hold().pause(0.1)
    drag.move_by_offset(60, 40).pause(0.1).move_by_offset(60, 40).pause(0.1).release().perform()
    assert axis_texts(page, "#curves") != whole
    buttons = all_of(page, "#curves .zoom button")
    buttons[2].send_keys("\n")
    assert axis_texts(page, "#curves") == whole
    buttons[0].send_keys("\n")
    zoomed = axis_texts(page, "#curves")
    assert zoomed != whole
    one(page, "#legend button").click()  # a plot drawn again keeps what is in sight
    assert "Reset" in buttons[2].text
    assert set(axis_texts(page, "#curves")) & set(zoomed)


def test_points_have_their_names_above_the_line_and_no_bar_passes_100_percent(trained, browser):
    """Two points on the front, whose line starts at them, and two near 100 % with intervals beyond."""
    rows = {"none": 99.0, "se": 99.4, "eca": 99.3, "ca": 98.0}
    lines = "".join(f"  {row}: {{model.attention: {row}}}\n" for row in rows)
    text = TINY[: TINY.index("variants:")] + "variants:\n" + lines
    Path("ablations/tiny.yaml").write_text(text)

    def train(spec, job):
        name = spec.model.attention.name
        done = fake_outcome(spec)
        cost = {**done.cost, "macs": 2_000_000 + 100_000 * [*rows].index(name)}
        return replace(done, cost=cost, metrics={**done.metrics, "top1": rows[name] + 0.2 * spec.seed})

    trained(train=train)
    page_of()
    browser.get(Path("out/index.html").absolute().as_uri())
    boxes = browser.execute_script(BOXES)
    assert {box["text"] for box in boxes["names"]} == set(rows)
    for box in boxes["names"]:
        assert [y for y in boxes["front"] if box["top"] < y < box["bottom"]] == []
    assert max(boxes["ticks"]) <= 100
    assert plotted(browser, "#scatter")[1][2].endswith("100.771")  # the numbers keep the interval


def test_a_log_axis_has_powers(page):
    from selenium.webdriver.support.ui import Select

    box = one(page, "#curves input[data-column='train_loss']")
    box.click()
    one(page, "#curves input[data-column='val_top1']").click()
    linear = axis_texts(page, "#curves")
    all_of(page, "#curves figcaption > .tools > label input[type=checkbox]")[-1].click()
    assert axis_texts(page, "#curves") != linear
    Select(one(page, "#x")).select_by_value("parameters")
    assert axis_texts(page, "#scatter")[1] == "Parameters"


def test_hovering_an_epoch_has_the_digits_of_the_table(page):
    from selenium.webdriver.common.action_chains import ActionChains

    plot = one(page, "#curves .plot")
    page.execute_script("arguments[0].scrollIntoView({ block: 'center' })", plot)
    ActionChains(page).move_to_element_with_offset(plot, 70, 0).perform()
    assert one(page, "#curves .bubble").text.splitlines()[0] == "Epoch 3"
    assert "Val top-1 (%): 61.13 in all" in one(page, "#curves .bubble").text


def test_chosen_runs_are_laid_over_each_other_and_smoothed(page):
    for box in all_of(page, "#runtable input[data-choose]")[:2]:
        box.click()
    one(page, "#overlay").click()
    rows = plotted(page, "#curves")
    assert len(rows) == 2
    assert rows[0][0].endswith("seed 0")
    assert rows[1][0].endswith("seed 1")
    assert rows[0][1:] == ["4", "60.00", "20.00", "61.13"]
    assert [item.text for item in all_of(page, "#curves .key li")] == [row[0] for row in rows]
    lines = len(all_of(page, "#curves svg path[stroke-width='2']"))
    one(page, "#smoothing").send_keys("\ue014" * 5)  # to the right
    assert len(all_of(page, "#curves svg path[stroke-width='2']")) == lines == 2
    assert len(all_of(page, "#curves svg path[stroke-opacity='0.25']")) == 2
    one(page, "#curves input[data-column='lr']").click()
    assert len(plotted(page, "#curves")) == 4
    assert one(page, "#curves input[data-column='train_loss']").get_attribute("disabled")  # two axes at most


def test_compares_runs_and_shows_what_differs(page):
    boxes = all_of(page, "#runtable input[data-choose]")
    assert not one(page, "#compare").is_enabled()
    boxes[0].click()
    assert not one(page, "#compare").is_enabled()
    boxes[-1].click()
    one(page, "#compare").click()
    visible = [row.text for row in all_of(page, "#comparison tbody tr") if row.is_displayed()]
    assert any(re.match(r"model.attention.name none se", row) for row in visible)
    assert any(re.match(r"seed 0 1", row) for row in visible)
    assert not any("data.name" in row for row in visible)
    one(page, "#comparison input").click()
    assert any(row.text.startswith("data.name") for row in all_of(page, "#comparison tbody tr"))
    address = page.current_url
    assert "#compare=" in address
    one(page, "#run form button").click()
    assert "#" not in page.current_url
    page.get("about:blank")
    page.get(address)
    assert one(page, "#runname").text == "Comparison of 2 runs"


def test_an_address_leads_to_a_run_and_back(page):
    opener = all_of(page, "#runtable [data-open]")[3]
    run_id = opener.text
    address = page.current_url
    page.get(f"{address}#run={run_id}")
    assert one(page, "#runname").text == f"Run {run_id}"
    page.back()
    assert not one(page, "#run").is_displayed()
    opener.click()
    assert page.current_url == f"{address}#run={run_id}"
    page.get("about:blank")
    page.get(f"{address}#run=unknown")
    assert not one(page, "#run").is_displayed()


def test_copies_each_format_as_the_files_have_it(page):
    page.execute_script(
        "window.copied = []; navigator.clipboard.writeText = async (text) => { window.copied.push(text); }"
    )
    for copy in all_of(page, "#tables .copy button"):
        copy.click()
    texts = page.execute_script("return window.copied")
    assert texts == [Path(f"out/table.{ending}").read_text() for ending in ("tex", "md", "csv")]
    assert one(page, "#said").get_attribute("textContent") == "Copied: Copy CSV"


def test_the_tables_take_the_width_and_keep_the_names_in_sight(page):
    box = one(page, "#tables .scroll")
    assert page.execute_script("return arguments[0].scrollWidth <= arguments[0].clientWidth", box)
    page.set_window_size(500, 900)  # headless Chromium has no narrower window
    try:
        assert page.execute_script("return arguments[0].scrollWidth > arguments[0].clientWidth", box)
        left = "return document.querySelector('table.report tbody th').getBoundingClientRect().left"
        before = page.execute_script(left)
        page.execute_script("arguments[0].scrollLeft = 200", box)
        assert page.execute_script(left) == before
        assert page.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    finally:
        page.set_window_size(1200, 1400)


def test_shows_the_reports_figures_with_links(page):
    page.execute_script("document.querySelector('#figures').scrollIntoView()")
    links = [link.get_attribute("href") for link in all_of(page, "#figures a")]
    folder = Path("out/figures").absolute()
    assert links == [(folder / f"differences.{ending}").as_uri() for ending in ("pdf", "svg", "png", "txt")]
    loaded = (
        "const image = document.querySelector('#figures img'); return image.complete && image.naturalWidth"
    )
    assert page.execute_script(loaded)
    assert one(page, "#figures h3").text == "All differences"


def test_the_options_in_which_runs_differ_are_parallel_axes(page):
    rows = plotted(page, "#parallel")
    assert len(rows) == 8
    assert {frozenset(row[1:3]) >= {"se"} for row in rows} == {True, False}
    texts = axis_texts(page, "#parallel")
    assert {"attention.name", "optimizer.lr", "Top-1 (%)"} <= set(texts)


def test_the_progress_of_a_grid_has_the_time_that_is_left(page):
    text = Path("out/index.html").read_text()
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])
    for number, run in enumerate(data["runs"].values()):
        if number >= 4:
            run["status"] = "running" if number == 4 else "pending"
    data["progress"] = {"total": 8, "done": 4, "workers": 1, "seconds_left": 14400.0}
    text = re.sub(r'(?<=id="data">).*?(?=</script>)', lambda _: json.dumps(data), text, flags=re.DOTALL)
    Path("out/part.html").write_text(text)
    assert not one(page, "#progress").is_displayed()
    page.get(Path("out/part.html").absolute().as_uri())
    assert one(page, "#progress").text == "50 % of the epochs, about 4 h left with 1 at a time"


def test_served_it_shows_the_figures(site, trained, browser):  # noqa: F811
    Path("reports/tiny.yaml").write_text(TINY_REPORT + FIGURES)
    from ema_lab.reports.page.site import Site
    from ema_lab.specs.report import load_report

    trained()
    live = Site({"tiny": load_report(Path("reports/tiny.yaml"))}, site.store)
    with served(live) as ask:
        browser.get(f"http://127.0.0.1:{ask.port}/tiny")
        browser.execute_script("document.querySelector('#figures').scrollIntoView()")
        from selenium.webdriver.support.ui import WebDriverWait

        loaded = (
            "const image = document.querySelector('#figures img'); return image && image.naturalWidth > 0"
        )
        WebDriverWait(browser, 30).until(lambda _: browser.execute_script(loaded))
        assert errors(browser) == []
        browser.get("about:blank")


def test_draws_the_figures_of_stored_predictions(page):
    text = Path("out/index.html").read_text()
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])
    first, second = (row["row"] for row in data["rows"][:2])
    line = {"mean": [90.5] * 101, "low": [None] * 101, "high": [None] * 101}
    counts = [[8, 2, 0], [0, 9, 1], [2, 3, 0]]
    data["figures"] = [
        {"kind": "precision_recall", "title": "Precision", "caption": "", "across": "Recall", "up": "Up"}
        | {"curves": [{"row": row, "average": 71.5, **line} for row in (first, second)]},
        {"kind": "confusion", "title": "Confusion", "caption": "Which", "counts": counts}
        | {"down": ["cat", "dog", "background"], "names": ["cat", "dog", "missed"]},
        {"kind": "classes", "title": "Classes", "caption": "", "across": "AP", "groups": ["cat"]}
        | {"points": [{first: [50.5, 45, 55], second: [60, None, None]}]},
    ]
    text = re.sub(r'(?<=id="data">).*?(?=</script>)', lambda _: json.dumps(data), text, flags=re.DOTALL)
    Path("out/predictions.html").write_text(text)
    page.get(Path("out/predictions.html").absolute().as_uri())
    labels = [row["label"] for row in data["rows"][:2]]
    assert plotted(page, "#charts > .prediction:nth-of-type(1) > figure") == [
        [label, "71.5", "90.5", "90.5", "90.5"] for label in labels
    ]
    shares = [cell.text for cell in all_of(page, ".matrix tbody td")]
    assert shares == ["80", "20", "", "", "90", "10", "40", "60", ""]
    assert plotted(page, "#charts > .prediction:nth-of-type(3) > figure") == [
        ["cat", labels[0], "50.5", "45 to 55"],
        ["cat", labels[1], "60", "no interval"],
    ]
    one(page, "#legend button").click()
    assert len(plotted(page, "#charts > .prediction:nth-of-type(1) > figure")) == 1

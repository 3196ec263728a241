"""The page of a report, as a file and served: whole without a network, live, read-only."""

import http.client
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from html import escape
from pathlib import Path

import pytest
from tiny import TINY, TINY_REPORT, fake_outcome

from ema_lab.ablation.ablation import load_ablation
from ema_lab.characters import hidden_characters
from ema_lab.reports.page.page import render_page
from ema_lab.reports.page.server import serve as listen
from ema_lab.reports.page.site import Site
from ema_lab.specs.report import load_report
from ema_lab.store.store import RunStore
from ema_lab.workflow.publish.report import report

NASTY = ["{{data}}", "{{tables}}", "{{script}}", "y tabindex=0 autofocus onfocus=alert(1) z"]
CURVE = "epoch,lr,train_loss,train_top1,train_seconds\n1,0.1,2.5,20.123456,1.0\n2,0.1,1.5,60.0,2.0\n"


def with_curve(spec, job):
    (job.folder / "curve.csv").write_text(CURVE)
    return fake_outcome(spec)


def failing(spec, job):
    if spec.seed == 1:
        (job.folder / "log.txt").write_text("first line\n</script><b>last line</b>\n")
        raise MemoryError("no room")
    return with_curve(spec, job)


def page_of() -> str:
    """Write the report `tiny` into `out`; return its page."""
    report("tiny").files(Path("out")).write()
    return Path("out/index.html").read_text()


def data_of(page: str) -> dict:
    [text] = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    return json.loads(text)


class TestPage:
    def test_holds_everything_of_every_run(self, trained):
        run_ids = trained(train=with_curve)
        data = data_of(page_of())
        assert list(data["runs"]) == sorted(run_ids)
        run = data["runs"][run_ids[2]]
        assert (run["variants"], run["seed"], run["status"]) == (["se"], 0, "done")
        assert run["metrics"] == {"top1": 92.0, "loss": 0.5}
        assert run["spec"] == RunStore("runs").spec(run_ids[2]).resolved()
        assert run["environment"]["num_threads"] == 1
        assert run["curve"]["train_top1"] == [20.123, 60.0]
        assert data["commands"] == ["ema-lab run tiny", "ema-lab report tiny --out tiny"]

    def test_its_numbers_have_the_digits_of_the_tables(self, trained):
        def uneven(spec, job):
            top1 = (
                90.125 + spec.seed
            )  # half a unit of the last digit: Python and browsers round it differently
            return replace(fake_outcome(spec), metrics={"top1": top1}, cost={"macs": 40_125_000})

        Path("reports/tiny.yaml").write_text("name: tiny\nablation: tiny\ncolumns: [top1, macs]\n")
        [first, second, *_] = trained(train=uneven)
        data = data_of(page_of())
        assert data["runs"][first]["texts"] == {"top1": "90.12", "macs": "40.12", "wall_seconds": "3,600.0"}
        assert data["runs"][second]["texts"]["top1"] == "91.12"
        assert data["rows"][0]["means"]["top1"]["text"] == "90.62"
        assert "90.62" in Path("out/table.md").read_text()
        assert data["costs"]["macs"] == {"label": "MACs", "header": "MACs (M)", "scale": 1e6}
        assert data["digits"] == 2

    def test_has_each_table_to_copy_and_the_names_of_its_figures(self, trained):
        figures = "figures: [{kind: forest, name: gaps, title: All gaps}, {kind: tradeoff, name: tradeoff}]\n"
        report = TINY_REPORT.replace("Tiny table", "Tiny <table>") + figures + "names: {se: '@se'}\n"
        Path("reports/tiny.yaml").write_text(report)
        trained()
        page = page_of()
        data = data_of(page)
        [table] = data["tables"]
        files = {"latex": "tex", "markdown": "md", "csv": "csv"}
        texts = {key: Path(f"out/table.{ending}").read_text() for key, ending in files.items()}
        assert table == {"name": "table", **texts}
        assert data["pictures"] == [
            {"name": "gaps", "title": "All gaps"},
            {"name": "tradeoff", "title": "tradeoff"},
        ]
        assert hidden_characters(page) == []

    def test_a_run_of_rows_of_two_ablations_is_there_once_and_names_both(self, trained):
        Path("ablations/other.yaml").write_text(TINY.replace("tiny", "other"))
        Path("reports/tiny.yaml").write_text(
            "name: tiny\nkind: datasets\nablations: {One: tiny, Two: other}\ncells: delta\n"
        )
        run_ids = trained()
        data = data_of(page_of())
        assert data["runs"][run_ids[2]]["variants"] == ["tiny: se", "other: se"]
        assert list(data["runs"]) == sorted(run_ids)
        assert data["others"] == []

    def test_every_run_that_a_cell_names_is_there(self, trained):
        Path("reports/tiny.yaml").write_text("name: tiny\nablation: tiny\nonly: {variant: se}\n")
        run_ids = trained(keep=lambda spec: spec.seed == 0)
        page = page_of()
        data = data_of(page)
        named = re.findall(r'data-(?:baseline-)?runs="([^"]*)"', page)
        assert {run_id for text in named for run_id in text.split()} == set(data["runs"]) > set(run_ids)
        assert [row["row"] for row in data["rows"]] == ["se"]
        assert [(row["row"], row["label"]) for row in data["others"]] == [("none", "none")]

    def test_needs_no_network_and_is_the_same_twice(self, trained):
        trained(train=with_curve)
        page = page_of()
        content = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)  # Chromium tests the program
        assert not re.search(r'(?:src|href)="(?!#|data:,")', content)
        assert "@import" not in content
        assert "url(" not in content
        assert page_of() == page

    def test_tells_what_failed_and_what_is_missing(self, trained):
        run_ids = trained(train=failing, keep=lambda spec: spec.model.attention.name == "none")
        page = page_of()
        runs = data_of(page)["runs"]
        assert [runs[run_id]["status"] for run_id in run_ids] == ["done", "pending"]
        failed = runs[run_ids[1]]
        assert re.fullmatch(r"MemoryError: no room \(test_page\.py:\d+\)", failed["why"])
        assert failed["log"].splitlines()[-1] == "</script><b>last line</b>"
        assert failed["attempts"][0]["outcome"] == "failed"
        assert sum(run["status"] == "pending" for run in runs.values()) == 3
        assert 'class="hole"' in page

    def test_a_hole_names_the_runs_that_it_asks_for(self, trained):
        run_ids = trained(keep=lambda spec: spec.model.attention.name == "none")
        wanted = [spec.run_id for spec in load_ablation("tiny").runs() if spec.run_id not in run_ids]
        page = page_of()
        holes = re.findall(r'<td class="hole"[^>]*data-runs="([^"]*)"', page)
        assert len(holes) == page.count('<td class="hole"') == 4
        assert set(holes) == {" ".join(wanted)}

    def test_a_run_that_failed_and_was_done_later_has_its_attempts_and_the_end_of_its_log(self, trained):
        run_ids = trained(train=failing, keep=lambda spec: spec.model.attention.name == "none")
        assert data_of(page_of())["runs"][run_ids[1]]["failures"] == 1

        def logged(spec, job):
            (job.folder / "log.txt").write_text("".join(f"line {number}\n" for number in range(100_000)))
            return with_curve(spec, job)

        trained(train=logged, keep=lambda spec: spec.model.attention.name == "none")
        run = data_of(page_of())["runs"][run_ids[1]]
        assert run["status"] == "done"
        assert [attempt["outcome"] for attempt in run["attempts"]] == ["failed", "done"]
        assert run["failures"] == 1
        assert run["log"].splitlines() == [f"line {number}" for number in range(99_990, 100_000)]

    def test_of_many_runs_the_finished_ones_have_neither_curve_nor_log_nor_attempts(
        self, trained, monkeypatch
    ):
        monkeypatch.setattr("ema_lab.reports.page.data.MOST_CURVES", 3)
        run_ids = trained(train=failing, keep=lambda spec: spec.model.attention.name == "none")
        data = data_of(page_of())
        assert data["left_out"] == "more than 3 runs"
        done, failed = (data["runs"][run_id] for run_id in run_ids)
        assert (done["curve"], done["log"], done["attempts"]) == (None, None, [])
        assert failed["log"].splitlines()[-1] == "</script><b>last line</b>"
        assert failed["attempts"][0]["outcome"] == "failed"

    @pytest.mark.parametrize("name", NASTY)
    def test_a_name_in_the_pages_own_language_is_shown_as_it_is(self, trained, name):
        Path("reports/tiny.yaml").write_text(
            json.dumps({"name": "tiny", "title": name, "ablation": "tiny", "names": {"se": name}})
        )
        trained()
        page = page_of()
        data = data_of(page)
        assert [data["title"], data["rows"][1]["label"]] == [name, name]
        assert page.count(f"<title>{escape(name)}</title>") == page.count(f"<h1>{escape(name)}</h1>") == 1
        assert f'<th scope="row">{escape(name)}</th>' in page
        assert "onfocus=" not in re.sub(r">[^<]*<", "><", page)

    def test_no_text_of_a_run_ends_its_script(self):
        page = render_page([], {"title": "<b>", "name": "</script><script>alert(1)</script>"})
        assert "</script><script>alert" not in page
        assert "<title>&lt;b&gt;</title>" in page


@contextmanager
def served(
    site: Site, host: str = "127.0.0.1", port: int = 0
) -> Iterator[Callable[..., http.client.HTTPResponse]]:
    servers = []
    ready = threading.Event()

    def keep(server):
        servers.append(server)
        ready.set()

    thread = threading.Thread(target=listen, args=(site, host, port, keep))
    thread.start()
    assert ready.wait(10)
    port = servers[0].server_port

    def ask(path: str, method: str = "GET", **headers: str) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection(host, port, timeout=60)
        connection.request(
            method, path, headers={key.replace("_", "-"): value for key, value in headers.items()}
        )
        return connection.getresponse()

    ask.port = port
    try:
        yield ask
    finally:
        servers[0].shutdown()
        thread.join()


@pytest.fixture
def site(folder) -> Site:
    Path("reports").mkdir(exist_ok=True)
    Path("reports/tiny.yaml").write_text(TINY_REPORT)
    return Site({"tiny": load_report(Path("reports/tiny.yaml"))}, RunStore("runs"))


class TestServer:
    def test_shows_a_grid_as_it_grows(self, site, trained):
        with served(site) as ask:
            [entry] = json.loads(ask("/_data").read())["data"]["reports"]
            assert (entry["name"], entry["href"]) == ("tiny", "/tiny")
            assert b'data-live="/tiny/data"' in ask("/tiny").read()
            before = ask("/tiny/data")
            tag, data = before.headers["ETag"], json.loads(before.read())
            assert {run["status"] for run in data["data"]["runs"].values()} == {"pending"}
            assert ask("/tiny/data", If_None_Match=tag).status == 304
            trained(train=with_curve)
            after = ask("/tiny/data", If_None_Match=tag)
            assert after.status == 200
            fresh = json.loads(after.read())
            assert {run["status"] for run in fresh["data"]["runs"].values()} == {"done"}
            assert "92.50" in fresh["tables"]

    def test_draws_the_files_of_a_figure(self, site, trained):
        Path("reports/tiny.yaml").write_text(TINY_REPORT + "figures: [{kind: forest, name: a-b}]\n")
        live = Site({"tiny": load_report(Path("reports/tiny.yaml"))}, site.store)
        with served(live) as ask:
            assert ask("/tiny/figures/a-b.svg").status == 404  # nothing to draw yet
            assert b"Not drawn" in ask("/tiny/figures/a-b.txt").read()
            trained()
            answers = {ending: ask(f"/tiny/figures/a-b.{ending}") for ending in ("svg", "pdf", "png", "txt")}
            assert [answer.status for answer in answers.values()] == [200] * 4
            assert answers["svg"].headers["Content-Type"] == "image/svg+xml"
            assert answers["pdf"].read().startswith(b"%PDF")
            for path in ("a-b", "a-b.", "a-b.html", "b.svg", "..%2fa-b.svg", "a-b.svg/x"):
                assert ask(f"/tiny/figures/{path}").status == 404

    @pytest.mark.parametrize(
        "path",
        ["/other", "/tiny/spec.json", "/../runs", "/%2e%2e/%2e%2e/etc/passwd", "/runs/", "//etc/passwd"],
    )
    def test_hands_out_nothing_else(self, site, trained, path):
        trained()
        with served(site) as ask:
            assert ask(path).status == 404

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
    def test_changes_nothing(self, site, method):
        with served(site) as ask:
            assert ask("/tiny", method).status == 501

    def test_answers_no_page_of_another_host(self, site):
        with served(site) as ask:
            assert ask("/tiny", Host="evil.example:80").status == 403
            assert ask("/tiny", Host="localhost:80").status == 200

    @pytest.mark.skipif(not socket.has_ipv6, reason="Python was built without IPv6")
    def test_answers_on_the_loopback_of_ipv6(self, site):
        with served(site, "::1") as ask:
            assert ask("/tiny").status == 200
            assert ask("/tiny", Host="[::1]").status == 200
            assert ask("/tiny", Host="[::1").status == 403
            assert ask("/tiny", Host="evil.example").status == 403

    def test_says_what_is_wrong_in_a_line_and_goes_on(self, site):
        with served(site) as ask:
            Path("ablations/tiny.yaml").write_text("name: tiny\n")
            answer = ask("/tiny")
            assert answer.status == 409
            assert b"ablations/tiny.yaml" in answer.read()
            assert ask("/").status == 200

    def test_head_has_the_headers_alone(self, site):
        with served(site) as ask:
            answer = ask("/tiny", "HEAD")
            assert (answer.status, answer.read()) == (200, b"")
            assert "default-src 'none'" in answer.headers["Content-Security-Policy"]

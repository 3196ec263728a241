"""The overview of a store: its data, its routes, and the stream of its changes."""

import http.client
import json
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
from test_page import failing, served, with_curve
from tiny import TINY, fake_outcome

from ema_lab.ablation.ablation import load_ablation
from ema_lab.execution.executor import execute
from ema_lab.reports.page import overview as overview_module
from ema_lab.reports.page.server import Feed
from ema_lab.reports.page.site import Site
from ema_lab.store.store import RunStore


@pytest.fixture
def site(folder) -> Site:
    return Site({}, RunStore("runs"), whole=True)


def data_of(site: Site, path: str = "/_data") -> dict:
    answer = site.answer(path)
    assert answer is not None
    return json.loads(answer[1])["data"]


def named(entries: list[dict], name: str) -> dict:
    [entry] = [entry for entry in entries if entry["name"] == name]
    return entry


class TestAblations:
    def test_local_ones_are_there_before_their_first_run_and_bundled_ones_only_with_runs(self, site):
        data = data_of(site)
        assert [entry["name"] for entry in data["ablations"]] == ["tiny"]
        tiny = data["ablations"][0]
        assert tiny["counts"] == {"done": 0, "running": 0, "failed": 0, "pending": 4}
        assert (tiny["changed"], tiny["progress"]["done"], tiny["progress"]["total"]) == (None, 0, 4)
        assert data["runs"] == data["failures"] == []

    def test_counts_and_progress(self, site, trained):
        trained(train=failing)
        tiny = named(data_of(site)["ablations"], "tiny")
        assert tiny["counts"] == {"done": 2, "running": 0, "failed": 2, "pending": 0}
        assert tiny["progress"] == {"total": 4, "done": 2, "workers": 0, "seconds_left": None}
        assert tiny["href"] == "/ablations/tiny"
        assert data_of(site, "/ablations/tiny/data")["ablations"] == ["tiny"]

    def test_a_bundled_one_with_runs_comes_with_its_reports(self, site):
        execute(
            load_ablation("quickstart").runs()[:1],
            train=lambda spec, job: fake_outcome(spec),
            store=site.store,
        )
        data = data_of(site)
        assert {entry["name"] for entry in data["ablations"]} == {"tiny", "quickstart"}
        report = named(data["reports"], "quickstart")
        assert (report["href"], report["ablations"]) == ("/quickstart", ["quickstart"])
        assert site.answer("/quickstart/data") is not None
        assert "coco_yolov5s" not in {entry["name"] for entry in data["reports"]}

    def test_a_stale_result_is_counted(self, site, trained):
        [run_id, *_] = trained()
        path = Path("runs", run_id, "record.json")
        record = json.loads(path.read_text())
        assert named(data_of(site)["ablations"], "tiny")["stale"] == 0
        path.write_text(json.dumps({**record, "source": {"training": "0" * 16}}))
        assert named(data_of(site)["ablations"], "tiny")["stale"] == 1

    def test_a_file_that_is_wrong_is_named_and_hides_no_other(self, site, trained):
        trained()
        Path("ablations/bad.yaml").write_text("name: bad\n")
        Path("reports/bad.yaml").write_text("name: bad\ncolumns: [nonsense]\n")
        data = data_of(site)
        assert [entry["name"] for entry in data["problems"]] == ["bad"]
        assert "ablations/bad.yaml" in data["problems"][0]["problem"]
        assert "reports/bad.yaml" in named(data["reports"], "bad")["problem"]
        assert named(data["ablations"], "tiny")["counts"]["done"] == 4
        Path("ablations/bad.yaml").write_text(TINY.replace("name: tiny", "name: bad"))
        assert data_of(site)["problems"] == []

    def test_a_user_module_is_not_imported(self, site, trained):
        Path("mine.py").write_text(
            "raise SystemExit('imported')\n\nclass Mine:\n    def __init__(self, channels, *, k=3): pass\n"
        )
        text = TINY.replace("name: tiny", "name: own").replace("{name: se, reduction: 4}", "'mine:Mine'")
        Path("ablations/own.yaml").write_text(text)
        own = named(data_of(site)["ablations"], "own")
        assert sum(own["counts"].values()) == 4


class TestRuns:
    def test_the_newest_come_first_with_their_names_and_results(self, site, trained):
        first = trained(keep=lambda spec: spec.seed == 0)
        second = trained(keep=lambda spec: spec.seed == 1)
        runs = data_of(site)["runs"]
        assert {run["run_id"] for run in runs[:2]} == set(second)
        assert {run["run_id"] for run in runs[2:]} == set(first)
        [run] = [run for run in runs if run["run_id"] == second[1]]
        assert run["names"] == [{"ablation": "tiny", "row": "se"}]
        assert (run["metric"], run["value"], run["seconds"]) == ("Top-1 (%)", "93.00", 3600.0)
        assert (run["seed"], run["state"]) == (1, "done")
        assert run["href"] == f"/ablations/tiny#run={second[1]}"
        assert run["ended"]

    def test_only_so_many_are_listed_and_all_are_counted(self, site, trained, monkeypatch):
        monkeypatch.setattr(overview_module, "MOST_RECENT", 3)
        trained()
        data = data_of(site)
        assert (len(data["runs"]), data["counts"]) == (3, {"done": 4})

    def test_a_run_of_no_ablation_has_a_page_of_its_own(self, site, trained):
        run_ids = trained(train=with_curve)
        Path("ablations/tiny.yaml").unlink()
        data = data_of(site)
        assert data["ablations"] == []
        [run] = [run for run in data["runs"] if run["run_id"] == run_ids[2]]
        assert (run["names"], run["attention"], run["data"]) == ([], "se", "synthetic")
        assert run["href"] == f"/runs/{run_ids[2]}"
        page = data_of(site, f"{run['href']}/data")
        assert (page["kind"], list(page["runs"])) == ("run", [run_ids[2]])
        assert page["runs"][run_ids[2]]["curve"]["epoch"] == [1, 2]
        assert page["places"] == []

    def test_the_page_of_a_run_leads_to_its_ablations(self, site, trained):
        run_id = trained()[3]
        Path("ablations/again.yaml").write_text(TINY.replace("name: tiny", "name: again"))
        assert data_of(site, f"/runs/{run_id}/data")["places"] == [
            {"text": f"{name}: se, seed 1", "href": f"/ablations/{name}#run={run_id}"}
            for name in ("again", "tiny")
        ]

    def test_a_seed_beyond_the_file_is_named_by_its_row(self, site):
        more = load_ablation("tiny").with_seeds({"se": 3}).runs()[-1:]
        execute(more, train=lambda spec, job: fake_outcome(spec), store=site.store)
        [run] = data_of(site)["runs"]
        assert (run["names"], run["seed"]) == ([{"ablation": "tiny", "row": "se"}], 2)
        assert run["href"] == f"/runs/{more[0].run_id}"  # the page of the ablation has the file's seeds

    def test_a_damaged_run_is_a_failure(self, site, trained):
        [run_id, *_] = trained()
        Path("runs", run_id, "record.json").write_text("{")
        Path("runs", run_id, "spec.json").write_text("[]")
        data = data_of(site)
        [failure] = data["failures"]
        assert "record.json" in failure["message"]
        assert failure["runs"][0]["run_id"] == run_id


class TestFailures:
    def test_equal_ones_are_one_line_with_place_and_attempts(self, site, trained):
        trained(train=failing)
        [failure] = data_of(site)["failures"]
        assert (failure["message"], failure["place"].split(":")[0]) == (
            "MemoryError: no room",
            "test_page.py",
        )
        assert (failure["count"], failure["attempts"], failure["given_up"]) == (2, [1, 1], 0)
        assert "fewer workers" in failure["remedy"]
        trained(train=failing)
        trained(train=failing)
        [failure] = data_of(site)["failures"]
        assert (failure["attempts"], failure["given_up"]) == ([3, 3], 2)

    def test_a_failure_is_gone_when_its_run_is_done(self, site, trained):
        trained(train=failing)
        trained()
        assert data_of(site)["failures"] == []


class TestRoutes:
    @pytest.mark.parametrize(
        "path",
        [
            "/ablations",
            "/ablations/",
            "/ablations/other",
            "/ablations/tiny/x",
            "/ablations/tiny/data/x",
            "/ablations/..%2f..%2fetc%2fpasswd",
            "/runs/0000000000000000",
            "/runs/..",
            "/runs/.locks",
            "/sweeps/none",
            "/_data/x",
            "/_events/x",
        ],
    )
    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    def test_what_is_not_there_is_404(self, site, trained, path, method):
        trained()
        with served(site) as ask:
            assert ask(path, method).status == 404

    def test_named_reports_are_served_alone(self, folder, trained):
        [run_id, *_] = trained()
        site = Site({"tiny": load_report_tiny()}, RunStore("runs"))
        assert site.answer("/tiny") is not None
        for path in ("/ablations/tiny", f"/runs/{run_id}", "/quickstart"):
            assert site.answer(path) is None
        data = data_of(site)
        assert (data["runs"], data["ablations"], data["store"]) == ([], [], None)

    def test_a_report_that_is_named_like_a_kind_has_a_path_of_its_own(self, site):
        Path("reports/runs.yaml").write_text("name: runs\nablation: tiny\n")
        report = named(data_of(site)["reports"], "runs")
        assert report["href"] == "/reports/runs"
        assert data_of(site, "/reports/runs/data")["name"] == "runs"

    def test_an_answer_is_made_once_until_something_changes(self, site, trained, monkeypatch):
        trained(keep=lambda spec: spec.seed == 0)
        made = []
        whole = Site._make

        def make(self, route):
            made.append(route)
            return whole(self, route)

        monkeypatch.setattr(Site, "_make", make)
        for path in ("/ablations/tiny", "/", "/ablations/tiny", "/"):
            site.answer(path)
        first = len(made)
        site.answer("/ablations/tiny")
        assert len(made) == first <= 4  # a young folder may count as changed once
        trained(keep=lambda spec: spec.seed == 1)
        site.answer("/ablations/tiny")
        assert len(made) == first + 1


def load_report_tiny():
    from ema_lab.specs.report import load_report

    return load_report(Path("reports/tiny.yaml"))


@contextmanager
def stream(port: int, **headers: str):
    """Yield a function that returns the next event of the server's stream; None at its end."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/_events", headers={key.replace("_", "-"): v for key, v in headers.items()})
    answer = connection.getresponse()
    assert answer.headers["Content-Type"] == "text/event-stream"

    def event() -> dict[str, str] | None:
        fields: dict[str, str] = {}
        while line := answer.readline():
            key, colon, value = line.decode().rstrip("\n").partition(": ")
            if colon and key:
                fields[key] = value
            elif "data" in fields:
                return fields
        return None

    yield event
    answer.close()
    connection.close()


class TestEvents:
    def test_each_change_is_an_event_for_every_client(self, site, trained):
        with served(site) as ask, stream(ask.port) as one, stream(ask.port) as other:
            first = one()
            assert first is not None
            assert (first["event"], first["id"]) == ("change", first["data"])
            assert other() == first
            trained(keep=lambda spec: spec.seed == 0)
            second = one()
            assert second is not None
            assert second["data"] != first["data"]
            assert other() is not None

    def test_a_client_that_comes_back_is_told_of_changes_alone(self, site, trained):
        with served(site) as ask:
            with stream(ask.port) as event:
                first = event()
            with stream(ask.port, Last_Event_ID=first["id"]) as event:
                trained()
                assert event()["id"] != first["id"]

    def test_open_streams_end_with_the_server(self, site):
        ended = []
        with served(site) as ask:
            listening = threading.Event()

            def listen():
                with stream(ask.port) as event:
                    event()
                    listening.set()
                    ended.append(event())

            thread = threading.Thread(target=listen)
            thread.start()
            assert listening.wait(30)
        thread.join(30)
        assert ended == [None]

    def test_head_opens_no_stream(self, site):
        with served(site) as ask:
            answer = ask("/_events", "HEAD")
            assert (answer.status, answer.read()) == (200, b"")

    def test_another_host_name_gets_no_event(self, site):
        with served(site) as ask:
            assert ask("/_events", Host="evil.example").status == 403

    def test_a_store_that_cannot_be_read_ends_no_stream(self, site, trained):
        trained()
        feed = Feed(lambda: site.version(quick=True), interval=0.0)
        events = feed.events()
        assert next(events).startswith(b"retry: ")
        first = next(events)
        Path("runs").rename("elsewhere")
        Path("runs").write_text("no folder")
        assert next(events) != first
        Path("runs").unlink()
        Path("elsewhere").rename("runs")
        assert next(events).startswith(b"id: ")
        feed.close()
        assert list(events) == []

    def test_clients_share_a_look(self):
        looks = []
        feed = Feed(lambda: looks.append(1) or str(len(looks)), interval=1000.0)
        assert [feed.version() for _ in range(5)] == ["1"] * 5

    def test_a_quiet_stream_shows_that_it_lives(self, monkeypatch):
        monkeypatch.setattr("ema_lab.reports.page.server.ALIVE_SECONDS", -1.0)
        feed = Feed(lambda: "same", interval=0.0)
        events = feed.events("same")
        assert [next(events) for _ in range(2)] == [b"retry: 2000\n\n", b": alive\n\n"]
        feed.close()


def test_a_run_with_other_settings_has_its_row_and_says_so(site):
    changed = load_ablation("tiny", {"recipe.epochs": 2}).runs()[:1]
    execute(changed, train=lambda spec, job: fake_outcome(spec), store=site.store)
    [run] = data_of(site)["runs"]
    row = next(iter(load_ablation("tiny").rows()))
    assert run["names"] == [{"ablation": "tiny", "row": f"{row} (other settings)"}]
    assert run["href"] == f"/runs/{run['run_id']}"

"""serve: what it shows, where it listens, and what it says."""

import re
from pathlib import Path

import pytest
from tiny import TINY

from ema_lab.cli import serve as command_module


@pytest.fixture
def asked(monkeypatch):
    calls = []
    monkeypatch.setattr("ema_lab.reports.page.server.serve", lambda *words: calls.append(words))
    return calls


def test_shows_a_report_or_an_ablation_on_this_machine(command, folder, asked):
    assert command("serve", "tiny", "quickstart").code == 0
    [(site, host, port, _)] = asked
    assert list(site.reports) == ["tiny", "quickstart"]
    assert (host, port) == ("127.0.0.1", 8765)


def test_an_ablation_without_a_report_gets_the_usual_columns(command, folder, asked):
    Path("reports/tiny.yaml").unlink(missing_ok=True)
    assert command("serve", "tiny").code == 0
    assert asked[0][0].reports["tiny"].columns == ("top1", "delta", "parameters", "macs")


def test_an_address_that_cannot_be_is_one_line(command, folder):
    answer = command("serve", "quickstart", "--host", "256.1.1.1")
    assert answer.code == 2
    assert answer.err.startswith("ema-lab: cannot listen on 256.1.1.1:8765: ")
    assert len(answer.err.splitlines()) == 1


def test_a_name_of_nothing_is_answered_with_reports_and_ablations(command, folder):
    Path("ablations/mine.yaml").write_text(TINY.replace("tiny", "mine"))
    answer = command("serve", "min")
    assert (answer.code, answer.out) == (2, "")
    words = "ema-lab: no report or ablation is named 'min'; did you mean 'mine'? known: "
    assert answer.err.startswith(words)
    assert {"ema_claims", "tiny", "mine"} <= set(re.findall(r"\w+", answer.err))


@pytest.mark.parametrize(("host", "url"), [("0.0.0.0", "0.0.0.0"), ("::", "[::]"), ("::1", "[::1]")])
def test_the_message_names_the_address_and_who_can_open_it(capsys, monkeypatch, host, url):
    opened = []
    monkeypatch.setattr(command_module.webbrowser, "open", opened.append)
    monkeypatch.setattr(
        "ema_lab.reports.page.server.serve",
        lambda site, host, port, ready: ready(type("Server", (), {"server_port": 99})()),
    )
    command_module.serve(["quickstart"], host, 0, True, Path("runs"))
    said = capsys.readouterr().err
    assert f"http://{url}:99/quickstart" in said
    assert (f"everyone who reaches {host} can read them" in said) == (host != "::1")
    assert opened == [f"http://{url}:99/quickstart"]

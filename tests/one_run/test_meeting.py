"""Machines of a run meet by a file that only their user reads, and strangers are sent away."""

import json
import os
import socket
import threading

import pytest

from ema_lab.errors import RankError
from ema_lab.one_run.meeting import LOOPBACK, Link, Meeting, gathered
from ema_lab.one_run.node import join_attempt
from ema_lab.one_run.other_node import OtherNode, from_json, to_json
from ema_lab.one_run.rank_members import FarProcess, Member
from ema_lab.one_run.rank_process import Work
from ema_lab.store.job import RunJob
from ema_lab.training.machine import Machine


@pytest.fixture
def path(tmp_path):
    return tmp_path / "meetings" / "run.json"


def in_thread(function, *arguments) -> threading.Thread:
    thread = threading.Thread(target=function, args=arguments)
    thread.start()
    return thread


def meeting_at(path) -> Meeting:
    while (meeting := Meeting.read(path)) is None:
        pass
    return meeting


def test_two_machines_meet_and_talk_until_one_ends(path):
    seen = []

    def other() -> None:
        meeting = meeting_at(path)
        assert path.stat().st_mode & 0o777 == 0o600
        link = meeting.joined()
        seen.extend(link.receive())
        link.send({"kind": "ready"})
        seen.append(link.receive())
        link.close()

    thread = in_thread(other)
    with gathered(path, 1, 20) as (link,):
        assert not path.exists()
        assert link.here == link.there == LOOPBACK
        link.send({"number": 1, "text": "x" * 1000})
        assert link.receive() == [{"kind": "ready"}]
    thread.join()
    assert seen == [{"number": 1, "text": "x" * 1000}, None]


@pytest.mark.parametrize("says", [b"", b"GET / HTTP/1.1\r\n\r\n" * 9, None])
def test_a_stranger_is_sent_away_and_the_next_one_is_heard(path, says):
    came = []

    def others() -> None:
        meeting = meeting_at(path)
        if says is None:  # one who read another meeting
            wrong = Meeting(meeting.host, meeting.addresses, meeting.port, "0" * 64)
            assert wrong.joined() is None
        else:
            with socket.create_connection((LOOPBACK, meeting.port)) as stranger:
                stranger.sendall(says)
        came.append(meeting.joined())

    thread = in_thread(others)
    with gathered(path, 1, 20) as links:
        thread.join()
        assert len(links) == len(came) == 1
    came[0].close()


def test_who_listens_at_an_old_address_without_the_secret_is_not_believed(path):
    with socket.create_server((LOOPBACK, 0)) as listener:
        meeting = Meeting(socket.gethostname(), (), listener.getsockname()[1], "1" * 64)
        other = Meeting(meeting.host, (), meeting.port, "2" * 64)
        thread = in_thread(other.accepted, listener)
        assert meeting.joined() is None
        thread.join()
    assert meeting.joined() is None  # nobody listens any more


def test_a_machine_that_leaves_before_all_have_come_is_not_counted(path):
    kept = []

    def others() -> None:
        meeting = meeting_at(path)
        meeting.joined().close()
        kept.extend([meeting.joined(), meeting.joined()])

    thread = in_thread(others)
    with gathered(path, 2, 20) as links:
        thread.join()
        links[0].send({"number": 1})
        assert kept[0].receive() == [{"number": 1}]
    for link in kept:
        link.close()


def test_machines_that_do_not_come_end_the_attempt_and_leave_no_file(path):
    words = r"0 of 1 other machines came within 0.1 s \(--rank-timeout\)"
    with pytest.raises(RankError, match=words), gathered(path, 1, 0.1):
        pass
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("text", ["", "{", "[]", '{"host": "a"}', '{"host": 1, "addresses": 2, "port": "x"}'])
def test_a_damaged_file_is_no_meeting(path, text):
    path.parent.mkdir()
    path.write_text(text)
    assert Meeting.read(path) is None


def test_a_file_of_another_user_is_no_meeting(path, monkeypatch):
    Meeting("a", ("b",), 1, "c").write(path)
    assert Meeting.read(path) == Meeting("a", ("b",), 1, "c")
    mine = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: mine + 1)
    assert Meeting.read(path) is None


def test_messages_arrive_whole_in_whatever_pieces_they_come():
    with socket.create_server((LOOPBACK, 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        link = Link(listener.accept()[0])
    with ours:
        ours.sendall(b'{"a": 1}\n{"b"')
        assert link.receive() == [{"a": 1}]
        ours.sendall(b": 2}\n")
        assert link.receive() == [{"b": 2}]
    assert link.receive() is None
    link.send({"c": 3})  # to nobody
    link.close()


def test_the_work_of_another_machine_is_plain_json(make_spec, tmp_path):
    spec = make_spec({"name": "se", "reduction": 4}, recipe={"sync_batch_norm": True})
    machine = Machine(tmp_path, "cpu", num_threads=3, devices=2, nodes=2)
    work = Work(spec, RunJob(tmp_path / "run", "grid", "se", cache=tmp_path), machine, {"data": "0f"})
    found = from_json(json.loads(json.dumps(to_json(work))))
    assert found == work
    assert found.spec.run_id == spec.run_id


def without_module(message) -> None:
    spec = json.loads(message["work"]["spec"])
    message["work"]["spec"] = json.dumps(spec | {"data": {"name": "nowhere:data"}})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without_module, "data.name: no Python module 'nowhere'"),
        (lambda message: message["work"]["machine"].update(newer=1), "unexpected keyword argument 'newer'"),
        (lambda message: message["work"].pop("job"), "KeyError('job')"),
    ],
    ids=["a module is not there", "a newer version", "an older version"],
)
def test_a_machine_that_does_not_understand_its_work_says_so_on_both_sides(
    path, make_spec, tmp_path, change, words
):
    work = Work(make_spec(), RunJob(tmp_path / "run"), Machine(tmp_path, "cpu", nodes=2), {})
    message = json.loads(json.dumps({"number": 1, "port": 1, "work": to_json(work)}))
    change(message)
    told: list[str] = []
    thread = in_thread(lambda: meeting_at(path) and join_attempt(path, told.append))
    with gathered(path, 1, 20) as (link,):
        node = OtherNode(1, link, [Member(FarProcess(), None, host=link.there)])
        link.send(message)
        node.listen()
    thread.join()
    assert node.lost.startswith("machine 1 of the run (")
    assert "cannot train: its folder or its version of ema-lab is another one: " in node.lost
    assert words in node.lost
    assert [text for text in told if words in text and text.startswith("this machine cannot train: ")]

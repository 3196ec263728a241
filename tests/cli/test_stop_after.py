"""run --stop-after: what is left at the deadline goes on with the next call."""

import pytest

CPU = ("--device", "cpu", "--workers", "1")


def test_runs_that_are_left_at_the_deadline_give_an_exit_code_of_their_own(command, fake_training):
    trained = fake_training()
    answer = command("run", "tiny", "--stop-after", "0.001s", *CPU)
    assert (answer.code, trained) == (75, [])
    assert "tiny: 0 trained, 0 done before, 0 failed, 4 left at --stop-after" in answer.err
    assert "hint: the same command goes on with them, from the last checkpoint" in answer.err
    answer = command("run", "tiny", "--stop-after", "1h", *CPU)
    assert (answer.code, len(trained)) == (0, 4)
    assert "left" not in answer.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--stop-after", "soon"), "--stop-after takes a time such as 90s, 45m, 2h or 1h30m, got 'soon'"),
        (("--stop-after", "1h", "--engine", "ray"), "--stop-after is for workers here"),
        (("--checkpoint-minutes", "-1"), "--checkpoint-minutes must be 0 or more"),
    ],
)
def test_a_deadline_that_cannot_be_kept_is_refused(command, monkeypatch, options, message):
    monkeypatch.setattr("ema_lab.workflow.engine.choose_engine", lambda name, *_: name and object())
    answer = command("run", "tiny", *options, *CPU)
    assert (answer.code, answer.out) == (2, "")
    assert message in answer.err

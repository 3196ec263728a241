"""A store that was mistyped is named; before the first run, the usual one need not be there."""

from pathlib import Path

import pytest
import torch

READ = [
    "report tiny",
    "cost tiny",
    "cost tiny --latency",
    "audit ema_icassp2023",
    "status tiny",
    "retry tiny",
    "bundle tiny --out x.zip",
    "diff a b",
    "eval a",
    "list runs",
    "show run abcd",
    "push tiny --to wandb",
    "store check",
]


@pytest.mark.parametrize("words", READ)
def test_a_command_that_only_reads_names_it(command, tree, words):
    before = tree()
    answer = command(*words.split(), "--store", "rnus")
    assert (answer.code, answer.out) == (2, "")
    [line] = answer.err.splitlines()
    assert "rnus" in line
    assert "does not exist" in line or "is not there" in line or "no store" in line
    assert tree() == before


def test_it_is_named_where_the_environment_gives_it(command, monkeypatch):
    monkeypatch.setenv("EMA_LAB_STORE", "rnus")
    assert "the store rnus does not exist (--store, or EMA_LAB_STORE)" in command("status", "tiny").err


def test_a_plan_for_a_new_store_says_that_it_is_new(command):
    answer = command("plan", "tiny", "--store", "rnus")
    assert answer.code == 0
    assert "the store rnus does not exist yet" in answer.err


@pytest.mark.parametrize("words", ["plan tiny", "status tiny", "report tiny"])
def test_without_one_nothing_has_run_yet(command, words):
    answer = command(*words.split())
    assert answer.code == 0
    assert "does not exist" not in answer.err


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "cannot be read (EOFError)"),
        (b"PK\x03\x04", "cannot be read (PytorchStreamReader failed"),
        (b"x" * 100, "cannot be read (Weights only load failed)"),
        (None, "does not fit the model"),
    ],
)
def test_a_damaged_checkpoint_is_one_line(command, trained, content, words):
    run_id = trained()[0]
    path = Path("runs", run_id, "last.ckpt")
    if content is None:
        torch.save({"state_dict": {"model.x": torch.ones(1)}}, path)
    else:
        path.write_bytes(content)
    answer = command("eval", run_id, "--device", "cpu")
    assert (answer.code, answer.out) == (2, "")
    [line] = answer.err.splitlines()
    assert f"runs/{run_id}/last.ckpt {words}" in line

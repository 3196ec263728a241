"""Agents of W&B: their trials, their threads, their GPUs."""

import pytest

from ema_lab.workflow.execution import Execution
from ema_lab.workflow.search.wandb_agents import Agents, agent_environment


@pytest.mark.parametrize(
    ("workers", "trials", "counts"), [(3, 8, [3, 3, 2]), (4, 2, [1, 1]), (2, None, None)]
)
def test_agents_share_the_trials_and_have_the_same_threads(workers, trials, counts, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    how = Execution(workers, "cpu", store="/s", data="/d", threads=4)
    agents = Agents(workers, trials, "cpu", agent_environment(how))
    environments = agents.environments()
    assert agents.counts(len(environments)) == (counts or [None, None])
    assert {each["EMA_LAB_STORE"] for each in environments} == {"/s"}
    assert {each["EMA_LAB_THREADS"] for each in environments} == {"4"}
    assert not any("OMP_NUM_THREADS" in each for each in environments)


def test_agents_have_a_gpu_each(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    own = [each["CUDA_VISIBLE_DEVICES"] for each in Agents(None, None, "cuda", {}).environments()]
    assert own == ["2", "5"]

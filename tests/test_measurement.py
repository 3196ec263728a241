"""The modules' own shares add up to what a variant adds to its baseline, for every module of the zoo."""

import pytest

from ema_lab.catalogue import ATTENTIONS
from ema_lab.measurement import layer_costs, run_cost

KEYS = ("parameters", "parameters_without_norm", "macs", "macs_matmul", "macs_all", "activations")
OPTIONS = {
    "frozen": {"of": {"name": "ema", "groups": 4}},
    "matched": {"of": {"name": "se", "reduction": 4}, "by": "parameters"},
    "ema": {"groups": 4},
    "sa": {"groups": 4},
    "ge": {"extent": 2},
}


@pytest.mark.parametrize("name", [name for name in ATTENTIONS if name != "none"])
def test_shares_add_up_to_the_difference(make_spec, name):
    spec = make_spec({"name": name, **OPTIONS.get(name, {})})
    with_it, without = run_cost(spec), run_cost(make_spec("none"))
    shares = layer_costs(spec)
    assert len(shares) == 9
    for key in KEYS:
        assert sum(share[key] for share in shares.values()) == with_it[key] - without[key], key


def test_two_modules_after_one_block_are_told_apart(make_spec):
    also = [{"attention": "simam", "placement": {"after": "block_end"}}]
    shares = layer_costs(make_spec("se", model={"also": also}))
    names = list(shares)
    assert [share["attention"] for share in shares.values()] == ["se"] * 9 + ["simam"] * 9
    assert names[9] == names[0].replace(".attention", ".attention_2")

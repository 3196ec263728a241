import pytest

from ema_lab.models.build import build_model
from ema_lab.profiling.measure import measure_cost


@pytest.mark.parametrize(
    ("attention", "macs_matmul", "without_norm"),
    [
        ("none", 1_298_014_208, 23_652_132),
        pytest.param("se", 1_300_529_152, 26_167_076, marks=pytest.mark.slow),
        pytest.param("cbam", 1_303_487_840, 26_184_692, marks=pytest.mark.slow),
        pytest.param("ca", None, 25_569_020, marks=pytest.mark.slow),
        ("ema", None, 23_849_556),
    ],
)
def test_resnet50_costs_what_the_authors_models_cost(make_spec, attention, macs_matmul, without_norm):
    spec = make_spec(attention, model={"backbone": "resnet50", "stem": "cifar"}, data={"name": "cifar100"})
    cost = measure_cost(build_model(spec), image_size=32)
    assert cost["parameters_without_norm"] == without_norm
    if macs_matmul is not None:
        assert cost["macs_matmul"] == macs_matmul
    if attention == "none":
        assert cost["macs"] == 1_304_879_104
    if attention == "ema":
        assert round(cost["macs_matmul"] / 1e9, 4) == 1.6113
        assert round(cost["macs"] / 1e9, 4) == 1.6272  # FACTS 4.1 without its average pooling
    if attention == "ca":
        assert round(cost["macs_matmul"] / 1e9, 4) == 1.3135


def test_counting_leaves_the_model_as_it_was(make_spec):
    model = build_model(make_spec("se")).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    measure_cost(model, image_size=16)
    assert model.training
    assert all(value.equal(before[key]) for key, value in model.state_dict().items())

"""Loading state dicts with the authors' own key names (values are compared in test_golden.py)."""

import pytest
import torch
from torch import Tensor, nn

from ema_lab.attention import build_attention, load_reference_state
from ema_lab.errors import SpecError


def se_state(**changes: Tensor) -> dict[str, Tensor]:
    return {"fc.0.weight": torch.full((4, 64), 2.0), "fc.2.weight": torch.full((64, 4), 3.0), **changes}


def test_convolutions_of_one_pixel_and_linear_maps_stand_for_each_other() -> None:
    se = build_attention("se", 64)
    load_reference_state(se, {key: value[:, :, None, None] for key, value in se_state().items()})
    assert (se.squeeze.weight == 2).all()
    assert (se.excite.weight == 3).all()
    ema = build_attention("ema", 64)
    state = {"gn.weight": torch.ones(2), "gn.bias": torch.ones(2), "conv1x1.bias": torch.ones(2)}
    state |= {"conv3x3.weight": torch.ones(2, 2, 3, 3), "conv3x3.bias": torch.ones(2)}
    load_reference_state(ema, state | {"conv1x1.weight": torch.full((2, 2), 5.0)})
    assert (ema.mix.weight == 5).all()


def test_missing_unexpected_and_misshapen_keys_are_all_listed_and_nothing_is_loaded() -> None:
    se = build_attention("se", 64)
    before = se.squeeze.weight.clone()
    state = {
        "fc.0.weight": torch.ones(8, 64),
        "fc.4.bias": torch.ones(1),
        "squeeze.weight": torch.ones(4, 64),
    }
    with pytest.raises(SpecError) as caught:
        load_reference_state(se, state)
    assert str(caught.value) == (
        "the state does not fit SE; missing: fc.2.weight; unexpected: fc.4.bias, squeeze.weight;"
        " of another shape: fc.0.weight (8, 64) instead of (4, 64)"
    )
    assert torch.equal(se.squeeze.weight, before)


def test_a_transposed_weight_is_of_another_shape() -> None:
    with pytest.raises(SpecError, match=r"of another shape: fc.0.weight \(64, 4\) instead of \(4, 64\)"):
        load_reference_state(build_attention("se", 64), se_state(**{"fc.0.weight": torch.ones(64, 4)}))


def test_the_state_of_a_branch_that_is_off_is_unexpected() -> None:
    whole, part = build_attention("ema", 64), build_attention("ema", 64, local_branch=False)
    back = {ours: theirs for theirs, ours in whole.reference_keys.items()}
    state = {
        f"{back[key.split('.')[0]]}.{key.split('.')[1]}": value for key, value in whole.state_dict().items()
    }
    load_reference_state(whole, state)
    with pytest.raises(SpecError, match=r"unexpected: conv3x3.weight, conv3x3.bias$"):
        load_reference_state(part, state)


def test_a_count_of_batches_may_be_missing() -> None:
    nam = build_attention("nam", 4)
    state = {f"Channel_Att.bn2.{key}": torch.full((4,), 2.0) for key in ("weight", "bias", "running_var")}
    load_reference_state(nam, state | {"Channel_Att.bn2.running_mean": torch.ones(4)})
    assert (nam.norm.running_var == 2).all()
    with pytest.raises(SpecError, match=r"missing: Channel_Att.bn2.running_mean$"):
        load_reference_state(nam, state)


def test_the_authors_names_follow_the_fusion_of_gc() -> None:
    add, multiply = build_attention("gc", 32), build_attention("gc", 32, fusion="multiply")
    names = {"score": "conv_mask", "squeeze": "{}.0", "norm": "{}.1", "excite": "{}.3"}
    for module, transform in ((add, "channel_add_conv"), (multiply, "channel_mul_conv")):
        state = {
            f"{names[key.split('.')[0]].format(transform)}.{key.split('.')[1]}": value
            for key, value in module.state_dict().items()
        }
        load_reference_state(module, state)
    with pytest.raises(SpecError, match="unexpected: channel_mul_conv"):
        load_reference_state(add, state)


def test_a_module_without_known_names_says_so() -> None:
    with pytest.raises(SpecError, match=r"^Linear has no reference_keys"):
        load_reference_state(nn.Linear(2, 2), {})


@pytest.mark.parametrize(
    "name", ["bam", "ca", "cbam", "eca", "ema", "gam", "gc", "nam", "sa", "se", "triplet"]
)
def test_every_parameter_has_a_name_in_the_authors_code(name: str) -> None:
    module = build_attention(name, 128)
    prefixes = tuple(module.reference_keys.values())
    assert [key for key in module.state_dict() if not f"{key}.".startswith(prefixes)] == []
    assert len(set(prefixes)) == len(prefixes)

import torch
from hypothesis import given
from hypothesis import strategies as st

from ema_lab.randomness import hash_counters, hash_indices, integers_below, permutation, uniforms


@given(
    st.lists(st.integers(0, 2**63 - 1) | st.text(max_size=5), min_size=1, max_size=4), st.integers(0, 2**62)
)
def test_tensors_and_integers_are_hashed_alike(parts, index):
    expected = hash_counters(*parts, index)
    found = hash_indices(hash_counters(*parts), torch.tensor([index])).item()
    assert found % 2**64 == expected


def test_known_values_hold_on_every_machine():
    assert hash_counters(7) == 0x6E7CE04A63AC7DD2
    assert hash_counters(0, "order", 1) == 0x9027A50D74E6978B
    assert permutation(8, 0, "order", 0).tolist() == [3, 2, 7, 4, 6, 5, 1, 0]


@given(st.integers(1, 300), st.integers(0, 2**31), st.integers(0, 1000))
def test_a_permutation_holds_every_index_once(count, seed, epoch):
    assert sorted(permutation(count, seed, "order", epoch).tolist()) == list(range(count))


def test_epochs_seeds_and_purposes_give_other_orders():
    orders = [
        tuple(permutation(50, *parts).tolist())
        for parts in ((0, "a", 0), (0, "a", 1), (1, "a", 0), (0, "b", 0))
    ]
    assert len(set(orders)) == 4


def test_integers_below_are_uniform():
    bits = hash_indices(hash_counters(5), torch.arange(70_000))
    counts = integers_below(bits, 7).bincount(minlength=7)
    chi_square = ((counts - 10_000) ** 2 / 10_000).sum().item()
    assert chi_square < 22.5  # 6 degrees of freedom, p = 0.001
    assert len(counts) == 7


def test_neighbouring_indices_are_independent():
    bits = (hash_indices(hash_counters(9), torch.arange(20_000)) >> 40).double()
    correlation = torch.corrcoef(torch.stack([bits[:-1], bits[1:]]))[0, 1].abs().item()
    assert correlation < 0.03


def test_uniform_numbers_fill_the_unit_interval_evenly():
    numbers = uniforms(hash_indices(hash_counters(3), torch.arange(50_000)))
    assert numbers.dtype == torch.float64
    assert 0 <= numbers.min() < numbers.max() < 1
    counts = (numbers * 10).long().bincount(minlength=10)
    assert ((counts - 5000) ** 2 / 5000).sum().item() < 27.9  # 9 degrees of freedom, p = 0.001
    assert uniforms(torch.tensor([-1])).item() == 1 - 2.0**-32

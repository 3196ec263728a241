"""The number of channels reaches the parameter that means it, or the definition is refused."""

import sys

import pytest

from ema_lab.errors import SpecError
from ema_lab.registry.channels import means_channels
from ema_lab.registry.registry import Registry

FOREIGN = """
class Base:
    def __init__(self, **given):
        self.given = given


class Switch(Base):
    def __init__(self, no_spatial=False):
        super().__init__(no_spatial=no_spatial)


class Late(Base):
    def __init__(self, kernel: int = 3, inplanes: int = 64, reduction: int = 16):
        super().__init__(kernel=kernel, inplanes=inplanes, reduction=reduction)


class Typed(Base):
    def __init__(self, channels: bool, inplanes=64):
        super().__init__(channels=channels, inplanes=inplanes)


class SwitchedChannels(Base):
    def __init__(self, channel=True):
        super().__init__(channel=channel)


class Nothing(Base):
    def __init__(self):
        super().__init__()


class Named(Base):
    def __init__(self, *, dim: int, heads: int = 4):
        super().__init__(dim=dim, heads=heads)


class Child(Switch):
    pass


class Plain(Base):
    def __init__(self, in_planes, ratio: int = 16):
        super().__init__(in_planes=in_planes, ratio=ratio)
"""


@pytest.fixture
def foreign(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "foreign_for_channels", raising=False)
    (tmp_path / "foreign_for_channels.py").write_text(FOREIGN)
    registry = Registry("attention", {}, takes_channels=True)
    return lambda name: (registry, f"foreign_for_channels:{name}")


CHANNELS = [
    "channels",
    "channel",
    "in_channels",
    "num_channels",
    "gate_channels",
    "inplanes",
    "in_planes",
    "dim",
    "in_dim",
    "d_model",
    "inp",
    "c1",
    "channel_in",
    "in_c",
    "c",
    "C",
    "planes",
    "n_channels",
    "input_channels",
    "embed_dim",
    "num_features",
    "in_chans",
    "inp_dim",
]


def test_published_names_mean_channels():
    for name in CHANNELS:
        assert means_channels(name)


OTHERS = [
    "no_spatial",
    "kernel_size",
    "reduction",
    "channel_attention",
    "use_channels",
    "k_size",
    "e_lambda",
    "groups",
    "size",
    "model",
    "channel_reduction",
    "heads",
    "out",
    "spatial",
    "self",
    "in",
    "num",
]


def test_other_names_do_not():
    for name in OTHERS:
        assert not means_channels(name)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Switch", "as 'no_spatial', its first parameter, which is a switch"),
        ("Child", "as 'no_spatial', its first parameter, which is a switch"),
        ("Late", "as 'kernel', its first parameter, whose name does not mean channels"),
        ("Late", "{name: 'foreign_for_channels:Late', channels_as: inplanes}"),
        ("Typed", "as 'channels', its first parameter, which is a bool"),
        ("SwitchedChannels", "which is a switch"),
        ("Nothing", "has no parameter for the number of channels"),
        ("Nothing", "write a subclass whose __init__ takes it"),
        ("Named", "channels_as: dim"),
    ],
)
def test_a_first_parameter_that_is_no_number_of_channels_is_refused_with_a_hint(foreign, name, words):
    registry, target = foreign(name)
    for use in (lambda: registry.check(target, {}), lambda: registry.build(target, 64)):
        with pytest.raises(SpecError) as caught:
            use()
        assert words in str(caught.value)
        assert "foreign_for_channels.py:" in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "channels_as", "options", "given"),
    [
        ("Late", "inplanes", {"kernel": 5}, {"kernel": 5, "inplanes": 32, "reduction": 16}),
        ("Late", "kernel", {}, {"kernel": 32, "inplanes": 64, "reduction": 16}),
        ("Named", "dim", {"heads": 2}, {"dim": 32, "heads": 2}),
        ("Typed", "inplanes", {"channels": True}, {"channels": True, "inplanes": 32}),
    ],
)
def test_channels_as_names_the_parameter_and_frees_the_others(foreign, name, channels_as, options, given):
    registry, target = foreign(name)
    asked = {"channels_as": channels_as, **options}
    assert registry.check(target, asked) == asked
    assert registry.build(target, 32, **asked).given == given


@pytest.mark.parametrize(
    ("name", "channels_as", "words"),
    [
        ("Late", "planes", "must name one of its parameters (kernel, inplanes, reduction), got 'planes'"),
        ("Late", ["inplanes"], "must name one of its parameters"),
        ("Plain", "in_planes", "changes nothing: 'in_planes' comes first already"),
    ],
)
def test_a_wrong_channels_as_is_refused(foreign, name, channels_as, words):
    registry, target = foreign(name)
    with pytest.raises(SpecError) as caught:
        registry.check(target, {"channels_as": channels_as})
    assert words in str(caught.value)


def test_options_after_the_channels_are_checked_and_at_their_default_left_out(foreign):
    registry, target = foreign("Plain")
    assert registry.check(target, {"ratio": 16}) == {}
    assert registry.build(target, 8, **registry.check(target, {"ratio": 4})).given == {
        "in_planes": 8,
        "ratio": 4,
    }

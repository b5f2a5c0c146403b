"""Which parameters are prunable."""

from __future__ import annotations

import pytest
from torch import Tensor, nn

from prunelit.pruning.parameters import Selection, layer_of
from prunelit.request import BadRequest


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv1d(1, 2, 3), nn.BatchNorm1d(2), nn.ReLU())
        self.body = nn.ModuleDict({"up": nn.ConvTranspose2d(2, 2, 3, bias=False), "deep": nn.Conv3d(2, 2, 1)})
        self.norm = nn.GroupNorm(1, 2)
        self.scale = nn.Parameter(nn.Linear(1, 1).weight.data)
        self.words = nn.Embedding(3, 2)
        self.fc = nn.Linear(2, 3)


WEIGHTS = ["stem.0.weight", "body.up.weight", "body.deep.weight", "fc.weight"]


def test_weights_of_convolutions_and_linear_layers_in_the_networks_order() -> None:
    network = Network()
    chosen = Selection().of(network)
    assert list(chosen) == WEIGHTS
    assert all(parameter is network.get_parameter(name) for name, parameter in chosen.items())


@pytest.mark.parametrize(
    ("selection", "added"),
    [
        (Selection(bias=True), ["stem.0.bias", "body.deep.bias", "fc.bias"]),
        (Selection(norm=True), ["stem.1.weight", "norm.weight"]),
        (
            Selection(bias=True, norm=True),
            [
                *("stem.0.bias", "body.deep.bias", "fc.bias"),
                *("stem.1.weight", "stem.1.bias", "norm.weight", "norm.bias"),
            ],
        ),
    ],
)
def test_biases_and_norms_when_asked(selection: Selection, added: list[str]) -> None:
    assert sorted(selection.of(Network())) == sorted(WEIGHTS + added)


@pytest.mark.parametrize(
    ("exclude", "left"),
    [
        (("fc",), WEIGHTS[:3]),
        (("fc.weight",), WEIGHTS[:3]),
        (("body",), ["stem.0.weight", "fc.weight"]),
        (("body.*",), ["stem.0.weight", "fc.weight"]),
        (("stem.?", "body.[du]*"), ["fc.weight"]),
        (["fc", "stem"], WEIGHTS[1:3]),
        ("fc", WEIGHTS[:3]),
    ],
)
def test_exclude_by_module_by_name_and_by_wildcard(exclude: tuple[str, ...], left: list[str]) -> None:
    assert list(Selection(exclude=exclude).of(Network())) == left


def test_only_leaves_nothing_else_and_exclude_takes_from_it() -> None:
    assert list(Selection(only=("fc", "body")).of(Network())) == WEIGHTS[1:]
    assert list(Selection(only="body", exclude="*.deep", bias=True).of(Network())) == ["body.up.weight"]
    with pytest.raises(BadRequest, match=r"^only=fc1: must be a pattern that matches one of stem"):
        Selection(only=("fc1",)).of(Network())


def test_exclude_names_whole_parts() -> None:
    """``layers.1`` is not ``layers.10``, and patterns mind upper and lower case."""
    network = nn.Sequential(*[nn.Linear(1, 1) for _ in range(11)])
    assert "10.weight" in Selection(exclude=("1",)).of(network)
    with pytest.raises(BadRequest):
        Selection(exclude=("FC",)).of(Network())


@pytest.mark.parametrize("pattern", ["classifier", "stem.1", "*.bias", "words"])
def test_a_pattern_that_matches_nothing_prunable_is_refused(pattern: str) -> None:
    with pytest.raises(BadRequest, match=r"^exclude=") as caught:
        Selection(exclude=("fc", pattern)).of(Network())
    assert caught.value.value == pattern
    assert "body.up.weight" in str(caught.value)


def test_nothing_left_to_prune_is_refused() -> None:
    with pytest.raises(BadRequest, match=r"^exclude"):
        Selection(exclude=("*",)).of(Network())
    with pytest.raises(BadRequest, match="Linear"):
        Selection().of(nn.Sequential(nn.Embedding(2, 2), nn.LayerNorm(2)))


def test_shared_parameters_stand_once() -> None:
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    second.weight = first.weight
    assert list(Selection(bias=True).of(nn.Sequential(first, second, first))) == [
        "0.weight",
        "0.bias",
        "1.bias",
    ]


def test_a_network_that_is_one_layer() -> None:
    assert list(Selection(bias=True).of(nn.Linear(2, 2))) == ["weight", "bias"]
    assert layer_of("weight") == ""
    assert layer_of("layers.0.weight") == "layers.0"


def test_layers_without_a_shape_yet_are_refused() -> None:
    with pytest.raises(BadRequest, match="lazy"):
        Selection().of(nn.Sequential(nn.LazyLinear(3)))


def test_subclasses_of_layers_count() -> None:
    class Scaled(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(2 * x)

    assert list(Selection().of(nn.Sequential(Scaled(2, 2)))) == ["0.weight"]

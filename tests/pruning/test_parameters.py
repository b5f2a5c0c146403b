"""Which parameters are prunable."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize
from torch.nn.utils import prune as torch_prune

from prunelit.pruning.layers import (
    EMBEDDING,
    FROZEN,
    MASKED,
    OTHER,
    PARAMETRIZED,
    RECURRENT,
    SPECTRAL_NORM,
    WEIGHT_NORM,
)
from prunelit.pruning.parameters import Selection, forget_trainable, layer_of, note_trainable
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
    with pytest.raises(BadRequest, match=r"^only=fc1: .*\bstem"):
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
    with pytest.raises(BadRequest, match=r"^exclude=\['\*'\]: "):
        Selection(exclude=("*",)).of(Network())
    with pytest.raises(BadRequest, match=r"^network=Sequential: .*Linear"):
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
    with pytest.raises(BadRequest, match=r"^model=0: "):
        Selection().of(nn.Sequential(nn.LazyLinear(3)))


def test_subclasses_of_layers_count() -> None:
    class Scaled(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(2 * x)

    assert list(Selection().of(nn.Sequential(Scaled(2, 2)))) == ["0.weight"]


def test_attention_counts_with_the_weights_that_make_queries_keys_and_values() -> None:
    layer, split = nn.MultiheadAttention(4, 2), nn.MultiheadAttention(4, 2, kdim=3, vdim=5, add_bias_kv=True)
    assert list(Selection().of(layer)) == ["in_proj_weight", "out_proj.weight"]
    assert list(Selection(bias=True).of(split)) == [
        *("q_proj_weight", "k_proj_weight", "v_proj_weight"),
        *("in_proj_bias", "out_proj.weight", "out_proj.bias"),
    ]
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8), 2, enable_nested_tensor=False)
    assert len(Selection().of(encoder)) == 2 * 4


class Student(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
        self.teacher = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)).requires_grad_(False)


def test_what_needs_no_gradient_is_left_alone_unless_asked_for() -> None:
    network = Student()
    assert list(Selection().of(network)) == ["net.0.weight"]
    assert list(Selection(norm=True).of(network)) == ["net.0.weight", "net.1.weight"]
    assert list(Selection(frozen=True).of(network)) == ["net.0.weight", "teacher.0.weight"]
    assert list(Selection(exclude=("teacher",)).of(network)) == ["net.0.weight"]
    assert Selection().left_dense(network) == {"teacher.0.weight": FROZEN}
    assert Selection(frozen=True).left_dense(network) == {}
    assert Selection(exclude=("teacher",)).left_dense(network) == {}


def test_a_network_that_is_frozen_as_a_whole_is_refused_with_the_remedy() -> None:
    with pytest.raises(BadRequest, match=r"^frozen=false: 0\.weight .*Sequential.*true"):
        Selection().of(nn.Sequential(nn.Linear(2, 2)).requires_grad_(False))
    with pytest.raises(BadRequest, match=r"^frozen=false: teacher\.0\.weight"):
        Selection(only=("teacher",)).of(Student())


def test_what_trains_by_turns_stays_prunable() -> None:
    network = nn.ModuleDict({"generator": nn.Linear(2, 2), "judge": nn.Linear(2, 1)})
    note_trainable(network)
    network["judge"].requires_grad_(False)
    assert list(Selection().of(network)) == ["generator.weight", "judge.weight"]
    note_trainable(network)  # at the next epoch: it did train
    assert list(Selection().of(copy.deepcopy(network))) == ["generator.weight", "judge.weight"]
    assert Selection().left_dense(network) == {}
    forget_trainable(network)
    assert list(Selection().of(network)) == ["generator.weight"]


def old_style(wrap: Callable[..., nn.Module]) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return wrap(nn.Linear(3, 3))


class Low(nn.Module):
    """A parametrization with a matrix of its own, as adapters have."""

    def __init__(self) -> None:
        super().__init__()
        self.change = nn.Parameter(torch.zeros(3, 3))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.change


class Adapter(nn.Linear):
    def __init__(self) -> None:
        super().__init__(3, 3)
        self.weight.requires_grad_(False)
        self.lora_A = nn.Parameter(torch.zeros(2, 3))


DENSE = {
    "weight norm": (
        lambda: parametrizations.weight_norm(nn.Linear(3, 3)),
        {"1.parametrizations.weight.original1": PARAMETRIZED},
    ),
    "spectral norm": (
        lambda: parametrizations.spectral_norm(nn.Conv2d(3, 3, 1)),
        {"1.parametrizations.weight.original": PARAMETRIZED},
    ),
    "a parametrization of one's own": (
        lambda: parametrize.register_parametrization(nn.Linear(3, 3), "weight", Low()),
        {"1.parametrizations.weight.original": PARAMETRIZED, "1.parametrizations.weight.0.change": OTHER},
    ),
    "old weight norm": (lambda: old_style(nn.utils.weight_norm), {"1.weight_v": WEIGHT_NORM}),
    "old spectral norm": (lambda: old_style(nn.utils.spectral_norm), {"1.weight_orig": SPECTRAL_NORM}),
    "pruned by torch": (
        lambda: torch_prune.l1_unstructured(nn.Linear(3, 3), "weight", 0.5),
        {"1.weight_orig": MASKED},
    ),
    "LSTM": (lambda: nn.LSTM(3, 3), {"1.weight_ih_l0": RECURRENT, "1.weight_hh_l0": RECURRENT}),
    "GRU cell": (lambda: nn.GRUCell(3, 3), {"1.weight_ih": RECURRENT, "1.weight_hh": RECURRENT}),
    "embedding": (lambda: nn.Embedding(3, 3), {"1.weight": EMBEDDING}),
    "bilinear": (lambda: nn.Bilinear(3, 3, 3), {"1.weight": OTHER}),
    "adapter": (Adapter, {"1.weight": FROZEN, "1.lora_A": OTHER}),
    "normalisation over images": (lambda: nn.LayerNorm((3, 3)), {}),
}


@pytest.mark.parametrize("kind", DENSE)
def test_weights_that_stay_dense_are_named_with_the_reason(kind: str) -> None:
    make, expected = DENSE[kind]
    network = nn.Sequential(nn.Linear(3, 3), make())
    assert list(Selection().of(network)) == ["0.weight"]
    assert Selection().left_dense(network) == expected


def test_where_all_layers_stay_dense_the_reason_is_given() -> None:
    with pytest.raises(
        BadRequest, match=r"0\.parametrizations\.weight\.original1 \(torch.*remove_param.*Linear"
    ):
        Selection().of(nn.Sequential(parametrizations.weight_norm(nn.Linear(2, 2))))


def test_a_weight_shared_with_an_embedding_is_not_dense() -> None:
    network = nn.ModuleDict({"words": nn.Embedding(5, 3), "head": nn.Linear(3, 5)})
    network["head"].weight = network["words"].weight
    assert list(Selection().of(network)) == ["head.weight"]
    assert Selection().left_dense(network) == {}


def test_patterns_need_not_name_wrappers() -> None:
    network = nn.Sequential(torch.compile(nn.Linear(2, 2)), nn.Linear(2, 2))
    assert list(Selection(exclude=("0",)).of(network)) == ["1.weight"]
    whole = torch.compile(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)))
    assert list(Selection(exclude=("0",)).of(whole)) == ["_orig_mod.1.weight"]
    assert list(Selection(only=("1.weight",)).of(nn.DataParallel(whole._orig_mod))) == ["module.1.weight"]

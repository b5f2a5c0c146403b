"""Methods and amounts stand in one order wherever they stand."""

from __future__ import annotations

from prunelit.study.report.order import amount_key, group_key, listed_amounts, natural_key, sorted_methods


def test_the_dense_network_is_first_and_numbers_count_as_numbers() -> None:
    names = ["synflow rounds=100", "snip", "synflow rounds=20", "none lr=0.1", "none lr=1e-05", "rand"]
    assert sorted_methods([*names, "snip"]) == [
        *("none lr=1e-05", "none lr=0.1", "rand", "snip"),
        *("synflow rounds=20", "synflow rounds=100"),
    ]


def test_amounts_are_in_the_order_of_their_numbers() -> None:
    assert natural_key("compression 2") < natural_key("compression 10")
    groups = [("mnist", "fc", "snip", "compression 10"), ("mnist", "fc", "none", "dense")]
    groups += [("mnist", "fc", "snip", "compression 2")]
    assert [group[3] for group in sorted(groups, key=group_key)] == [
        "dense",
        "compression 2",
        "compression 10",
    ]


def test_amounts_with_the_same_words_name_them_once() -> None:
    assert listed_amounts(["compression 10", "compression 2", "compression 2"]) == "compression 2, 10"
    assert listed_amounts(["sparsity 0.9", "compression 2"]) == "compression 2, sparsity 0.9"
    assert listed_amounts(["4:8", "2:4"]) == "2:4, 4:8"


def test_budgets_follow_densities_each_from_the_one_that_prunes_least() -> None:
    amounts = ["compression 2", "compression 10"]
    amounts += ["flops 0.5", "flops 0.15", "params 1", "params 0.5", "speedup 2", "speedup 10"]
    amounts += ["latency 8", "latency 1e-05", "2:4", "threshold 0.45"]
    assert sorted(set(amounts), key=amount_key) == amounts
    assert listed_amounts(["flops 0.15", "flops 0.5"]) == "flops 0.5, 0.15"

"""The card of an export as a page in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

COSTS = ("bytes", "parameters", "flops")


def as_markdown(card: Mapping[str, Any]) -> str:
    """Return ``card.md``."""
    recorded = card["recorded"]
    lines = [
        f"# {card['run']}",
        "",
        f"{recorded['model']} on {recorded['data']}, pruned by {recorded['pruner']} with seed "
        f"{recorded['seed']} to {100 * recorded['density']:.2f} % of its prunable parameters. The run "
        f"recorded a test accuracy of {_number(recorded['top1'], '.2f')} %.",
        "",
        f"Checked with {card['checked_with']}: no output differs from the run's network by more "
        f"than {card['largest_change']:.1e} of the largest. Eight-bit programs are compared by accuracy.",
        "",
        *_table(
            ("network", "runtime", "accuracy (%)", "bytes on disk", "parameters", "multiply-accumulates"),
            [
                (n["name"], n["runtime"], _number(n["top1"], ".2f"), *(_number(n[k], ",") for k in COSTS))
                for n in card["networks"]
            ],
        ),
        "",
        "Accuracy is that on the images above; without the run's own images it is not measured.",
        "",
        *_table(
            ("network", "runtime", "device", "threads", "batch", "p50 (ms)", "p95 (ms)", "passes"),
            [
                (
                    *(str(row[key]) for key in ("name", "runtime", "device", "threads", "batch_size")),
                    *(f"{row[key]:.3f}" for key in ("p50_ms", "p95_ms")),
                    str(row["passes"]),
                )
                for row in card["latency"]
            ],
        ),
        "",
        "All networks of a batch size and number of threads took turns, after a warm-up; normalisation of "
        f"the images is included. Measured on {card['machine']} with PyTorch {card['torch']}.",
    ]
    return "\n".join(lines) + "\n"


def _number(value: float | None, form: str) -> str:
    return "unknown" if value is None else format(value, form)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]

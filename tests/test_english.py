"""The documentation, the configs and the source avoid phrases over which readers have stumbled."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXTS = sorted(
    path
    for folder in ("docs", "conf", "src", "benchmarks")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in (".md", ".yaml", ".py") and "example" not in path.parts
)
UNITS = (
    "row|process|file|folder|lock|table|line|run|round|layer|class|job|image|sweep|epoch|tensor|step|column"
)
PHRASES = {
    rf"\ba ({UNITS}) an? ({UNITS})\b": "one ... per ..., or ... for each ...",
    r"\b(in|of|after|every) so many\b|\bso many(th)? (as|runs|images|batches|threads|weights)\b": "this many",
    r"\banew\b": "again",
    r"\bin the works\b": "in progress",
    r"\bwithout a word\b": "without a message",
    r"\bhas its turn\b": "is called, or is tried",
    r"\bhears? of\b": "is notified of",
    r"\bcame to (an end|nothing)|\bwhat (it|they|each run) came to\b": "the result",
    r"\ballowed (is|are)\b": "must be",
    r"\bof one's own\b": "your own",
    r"\b(lies|lie|stands?) beside\b": "is next to",
    r"\b(asked|said|told) (is|was) (that|of)\b": "the requested ...",
    r", as `[\w./=:]+`[,.;)]": "such as `...`",
    r"\bleaves no trace\b": "has no side effects",
    r"\bride along\b": "are saved in",
    r"\bnobody listens\b|\bnothing listens\b": "is not used",
}


@pytest.mark.parametrize("phrase", PHRASES, ids=PHRASES.get)
def test_a_phrase_is_not_used(phrase: str) -> None:
    used = [
        f"{path.relative_to(ROOT)}: {' '.join(found[0].split())}"
        for path in [*TEXTS, ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
        for found in re.finditer(phrase.replace(" ", r"\s+(?:# )?"), path.read_text())
    ]
    assert used == [], f"write {PHRASES[phrase]}"

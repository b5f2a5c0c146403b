"""What every file of the source keeps to: its length, the checks of options, and the names of keys."""

import re

from source_code import FILES, SOURCE, name_of


def test_options_are_checked_by_their_declarations_alone() -> None:
    """Only what reads records, and the mechanism itself, tells booleans from numbers by hand."""
    readers = (
        "prunelit.declared",
        "prunelit.request",
        "prunelit.reference",
        "prunelit.study.report",
        "prunelit.study.record",
    )
    ladder = re.compile(r"isinstance\([^()]*\bbool\b")
    by_hand = [
        name_of(path)
        for path in FILES
        if ladder.search(path.read_text()) and not name_of(path).startswith(readers)
    ]
    assert by_hand == []


def test_keys_have_no_prefix_in_the_library() -> None:
    prefixed = re.compile(r"BadRequest\(\s*f?\"(pruner|data|model)\.")
    rooms = ("prunelit.pruning.", "prunelit.training.data.", "prunelit.training.callback")
    found = [name_of(path) for path in FILES if prefixed.search(path.read_text())]
    assert [name for name in found if name.startswith(rooms)] == []


def test_no_file_has_outgrown_its_place() -> None:
    long = [name_of(path) for path in FILES if path.read_text().count("\n") > 300]
    assert long == []
    criteria = SOURCE / "prunelit" / "pruning" / "criteria"
    assert [p.name for p in criteria.glob("*.py") if p.read_text().count("\n") > 125] == []

"""Each file imports alone, and only from where the wings allow."""

import ast
import re
import subprocess
import sys
from collections.abc import Sequence
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from source_code import (
    FILES,
    ROOT,
    SOURCE,
    changed_names,
    constants,
    imports,
    name_of,
    names_when,
    top_level_imports,
    within,
)

# What all wings may import: they know no other part of prunelit, and no heavy package.
COMMON = (
    "prunelit.request",
    "prunelit.declared",
    "prunelit.budget",
    "prunelit.amount",
    "prunelit.former_options",
    "prunelit.durable",
    "prunelit.data_workers",
    "prunelit.interruption",
    "prunelit.place",
    "prunelit.notice",
    "prunelit.image_files",
    "prunelit.turns",
)
# What a place may import of prunelit; the longest prefix that fits a module counts.
ALLOWED = {
    "prunelit": ("prunelit",),
    **dict.fromkeys(COMMON, ("prunelit.request", "prunelit.declared")),
    "prunelit.amount": ("prunelit.request", "prunelit.declared", "prunelit.budget"),
    "prunelit.notice": ("prunelit.place", "prunelit.request"),
    "prunelit.pruning": (
        *("prunelit.request", "prunelit.declared", "prunelit.amount", "prunelit.budget"),
        *("prunelit.former_options", "prunelit.durable", "prunelit.pruning"),
    ),
    "prunelit.training": (*COMMON, "prunelit.pruning", "prunelit.training"),
    "prunelit.study": (*COMMON, "prunelit.study"),
    "prunelit.report": ("prunelit.request", "prunelit.study"),
    "prunelit.reproduce": ("prunelit.request", "prunelit.study"),
    "hydra_plugins": ("prunelit.study",),
}
# What a place may not import of others, not even inside a function.
FORBIDDEN = {
    **dict.fromkeys(COMMON, ("torch", "lightning", "hydra")),
    "prunelit.pruning": ("lightning", "hydra", "omegaconf", "torchvision", "torchmetrics"),
    "prunelit.study": ("torch", "lightning", "torchvision", "torchmetrics"),
    "prunelit.report": ("torch", "lightning", "torchvision", "torchmetrics"),
    "prunelit.reproduce": ("torch", "lightning", "torchvision", "torchmetrics"),
}


# What a room of the study may not import: single runs know no sweep, sweeps no cluster, reports neither.
ABOVE = {
    "prunelit.study": ("prunelit.study.sweep", "prunelit.study.report", "prunelit.study.reproduction"),
    "prunelit.study.sweep": (
        *("prunelit.study.sweep.slurm", "prunelit.study.report", "prunelit.study.reproduction"),
    ),
    "prunelit.study.sweep.slurm": ("prunelit.study.report", "prunelit.study.reproduction"),
    "prunelit.study.report": ("prunelit.study.sweep", "prunelit.study.reproduction"),
    "prunelit.study.reproduction": ("prunelit.study.sweep.slurm",),
    "prunelit.study.report.watch": (),  # shows a sweep under way, by the state that the sweep wrote
}


def rule(table: dict[str, tuple[str, ...]], module: str) -> tuple[str, ...] | None:
    fitting = [prefix for prefix in table if within(module, prefix)]
    return table[max(fitting, key=len)] if fitting else None


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_only_from_where_the_layout_allows(path: Path) -> None:
    module = name_of(path)
    allowed, forbidden = rule(ALLOWED, module), rule(FORBIDDEN, module) or ()
    assert allowed is not None, f"{module} has no place in the layout"
    for imported in imports(path):
        if within(imported, "prunelit"):
            assert any(within(imported, prefix) for prefix in allowed), f"{module} imports {imported}"
        assert not any(within(imported, name) for name in forbidden), f"{module} imports {imported}"


def test_no_import_of_the_study_climbs() -> None:
    names = {name_of(path) for path in FILES}
    assert all(any(within(name, room) for name in names) for room in ABOVE)
    wrong = [
        f"{name_of(path)} imports {imported}"
        for path in FILES
        for imported in imports(path)
        if any(within(imported, room) for room in rule(ABOVE, name_of(path)) or ())
    ]
    assert wrong == []


def test_a_figure_is_one_module_that_nothing_names() -> None:
    """The page finds a figure because its module is there: no list, no import, no other figure knows it."""
    from prunelit.study.report.charts.figure import Figure
    from prunelit.study.report.figures import all_figures

    package = SOURCE / "prunelit" / "study" / "report" / "figures"
    names = {path.stem for path in package.glob("*.py")} - {"__init__"}
    assert {figure.name for figure in all_figures()} == names
    assert all(isinstance(figure, Figure) for figure in all_figures())
    room = "prunelit.study.report.figures"
    knowing = [
        f"{name_of(path)} imports {imported}"
        for path in FILES
        for imported in imports(path)
        if within(imported, room)
    ]
    assert knowing == ["prunelit.study.report.page.html imports prunelit.study.report.figures"]


def imports_of_later_rooms(package: str, rooms: Sequence[str]) -> list[str]:
    """Return a line for each import of a room of ``package`` by a room that comes before it."""
    return [
        f"{name_of(path)} imports {imported}"
        for number, room in enumerate(rooms)
        for path in FILES
        if within(name_of(path), f"{package}.{room}")
        for imported in imports(path)
        if any(within(imported, f"{package}.{later}") for later in rooms[number + 1 :])
    ]


def test_rooms_of_the_report_import_only_the_rooms_before_them() -> None:
    report, rooms = "prunelit.study.report", ("records", "tables", "charts", "figures", "page")
    assert all(any(within(name_of(path), f"{report}.{room}") for path in FILES) for room in rooms)
    assert imports_of_later_rooms(report, rooms) == []


def test_no_files_import_each_other() -> None:
    """Without a circle of imports, any file may be the first that is imported, and types flow one way too."""
    order = TopologicalSorter({name_of(path): top_level_imports(path) for path in FILES})
    assert set(order.static_order()) == {name_of(path) for path in FILES}


@pytest.mark.slow
def test_each_file_imports_alone() -> None:
    """One fresh module table a file, in one interpreter: no file leans on another's having been imported."""
    code = (
        "import importlib, sys\n"
        "import torch, lightning.pytorch, hydra\n"
        "for name in sys.argv[1:]:\n"
        "    for loaded in [m for m in sys.modules if m.split('.')[0] in ('prunelit', 'hydra_plugins')]:\n"
        "        del sys.modules[loaded]\n"
        "    importlib.import_module(name)\n"
    )
    names = [name_of(path) for path in FILES]
    done = subprocess.run([sys.executable, "-c", code, *names], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_reading_records_loads_no_torch() -> None:
    code = "import prunelit, prunelit.study.record, prunelit.study.checks, sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_names_of_the_library_are_there() -> None:
    import prunelit

    for name in prunelit.__all__:
        assert getattr(prunelit, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Prunning'"):
        _ = prunelit.Prunning


def test_each_public_name_stands_in_one_list() -> None:
    """Names of criteria stand in their package alone, all others in the file that type checkers read."""
    import prunelit
    from prunelit.pruning import criteria
    from prunelit.training.data.sources import SOURCES

    package = SOURCE / "prunelit"
    listed = (package / "__init__.pyi").read_text()
    assert set(criteria.__all__) < set(prunelit.__all__)
    assert [name for name in criteria.__all__ if re.search(rf"\b{name}\b", listed)] == []
    loaded = (package / "__init__.py").read_text()
    assert [name for name in prunelit.__all__ if f'"{name}"' in loaded] == []
    naming = [
        name_of(path)
        for path in (package / "training" / "data").glob("*.py")
        if all(f'"{name}"' in path.read_text() for name in SOURCES)
    ]
    assert naming == ["prunelit.training.data.sources"]


def test_networks_of_a_family_extend_one_config() -> None:
    """What all files of a class say, only the first of the family says."""
    for kind in ("VGG", "CifarResNet"):
        files = (ROOT / "conf" / "model").glob("*.yaml")
        first = [path for path in files if path.read_text().count(f"models.{kind}\n")]
        assert len(first) == 1, first


TIMING = "prunelit.training.fit.timing"


def test_one_file_alone_knows_when() -> None:
    """No other file compares ``when``, or computes with the options that say when prunings come."""
    compared, read = [], []
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare | ast.Match):
                sides = [node.subject] if isinstance(node, ast.Match) else [node.left, *node.comparators]
                compared += [name_of(path) for side in sides if names_when(side)]
            if isinstance(node, ast.Attribute) and node.attr in ("when", "pre_epochs", "every", "rewound_to"):
                owner = ast.unparse(node.value).rpartition(".")[2]
                read += [name_of(path)] if owner == "timing" else []
    assert set(compared) == {TIMING}
    assert set(read) == {TIMING}


def test_rooms_of_training_import_only_the_rooms_before_them() -> None:
    training = "prunelit.training"
    rooms = (
        *("models", "data", "lightning_classes", "lightning_overhead", "parallel", "scoring", "restoring"),
        *(
            "fit",
            "holding",
            "cutting",
            "metrics",
            "compiled_forward",
            "module",
            "network_pruner",
            "callback",
            "hold_masks",
        ),
        *("checkpoints", "epoch_loop", "config", "measuring", "packed", "run", "export"),
    )
    inside = {name_of(path).split(".")[2] for path in FILES if name_of(path).startswith(f"{training}.")}
    assert inside == set(rooms)
    assert imports_of_later_rooms(training, rooms) == []


HELD = [
    "prunelit.pruning.coupling.rules.RULES",
    "prunelit.study.invocation._CURRENT",
    "prunelit.turns._HERE",
]
"""A table that decorators fill while modules are imported, what reaches through the code of Hydra, and what
each thread knows of itself."""

KEPT_BY_VALUE = ("local", "ContextVar")
"""What is there to be changed, though no name shows it."""


def test_no_module_holds_state() -> None:
    """Containers at the top level are tables that nothing changes, and no function rebinds a global."""
    held = []
    for path in FILES:
        tree = ast.parse(path.read_text())
        held += [name_of(path) for node in ast.walk(tree) if isinstance(node, ast.Global)]
        held += [
            f"{name_of(path)}.{name}"
            for name, made in constants(tree).items()
            if made in KEPT_BY_VALUE
            or name in changed_names(tree)
            or not (name == "__all__" or name.strip("_")[:1].isupper())
        ]
    assert held == HELD


def test_the_entry_point_of_a_run_is_short() -> None:
    assert (SOURCE / "prunelit" / "train.py").read_text().count("\n") < 120

"""The compiled loops: how they are built, and that a library of another version is left alone."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from types import ModuleType

import pytest

from prunelit.pruning import loops
from source_code import SOURCE

LOOPS = SOURCE / "prunelit" / "pruning" / "loops.c"

needs_a_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")


@pytest.fixture(scope="module")
def hook() -> ModuleType:
    pytest.importorskip("hatchling")
    spec = importlib.util.spec_from_file_location("hatch_build", SOURCE.parent / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@needs_a_compiler
@pytest.mark.parametrize("further", [[], ["-DPORTABLE"]])
def test_loops_are_compiled_and_loaded(
    further: list[str], hook: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hook, "FURTHER", (further,))
    library = tmp_path / hook.LIBRARY
    assert hook.compile_loops(LOOPS, library, ["cc"]) is None
    assert loops.load(library) is not None


def test_a_compiler_that_fails_or_is_missing_gives_the_reason(hook: ModuleType, tmp_path: Path) -> None:
    wrong = tmp_path / "loops.c"
    wrong.write_text("this is not C;")
    assert "no_such_compiler" in hook.compile_loops(LOOPS, tmp_path / "library.so", ["no_such_compiler"])
    if shutil.which("cc"):
        assert "error" in hook.compile_loops(wrong, tmp_path / "library.so", ["cc"])


@needs_a_compiler
def test_another_compiler_is_tried_where_the_first_is_missing(
    hook: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "no_such_compiler -O2")
    assert hook.compilers()[0] == "no_such_compiler"
    assert hook.compile_loops(LOOPS, tmp_path / "library.so", hook.compilers()) is None


@needs_a_compiler
def test_a_library_of_another_version_is_not_used(hook: ModuleType, tmp_path: Path) -> None:
    source, library = tmp_path / "loops.c", tmp_path / "library.so"
    source.write_text(LOOPS.read_text().replace("loops_version = ", "loops_version = 9"))
    assert hook.compile_loops(source, library, ["cc"]) is None
    assert loops.load(library) is None


def test_a_library_that_is_missing_or_damaged_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "damaged.so").write_text("no library")
    assert loops.load(tmp_path / "damaged.so") is None
    assert loops.load(tmp_path / "missing.so") is None

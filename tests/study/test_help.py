"""What --help says of programs, groups and keys."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from prunelit import export, report
from prunelit.command_help import GROUPS
from prunelit.declared import options_of
from prunelit.reference import compose, rows_of_group
from prunelit.study.configs import CONFIGS
from prunelit.study.options import SweepOptions, TopLevel

Cli = Callable[..., tuple[int, str, list[str]]]
PLAIN = str.maketrans("", "", "`")


def test_help_whose_reader_has_gone_is_no_fault() -> None:
    command = [sys.executable, "-m", "prunelit.train", "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        program.stdout.close()
        assert program.stderr is not None
        assert "BrokenPipe" not in program.stderr.read()
    assert program.returncode == 141


def test_help_imports_no_torch() -> None:
    program = (
        "import sys; from prunelit import train; sys.argv = ['train', '--help']\n"
        "try: train.main()\n"
        "except SystemExit: print([name for name in ('torch', 'lightning') if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "[]"


def fits(text: str, width: int) -> bool:
    return all(len(line) <= width or len(line.split()) == 1 for line in text.splitlines())


def holds(text: str, *phrases: str) -> bool:
    """Tell whether the words of each phrase stand whole in a text, wherever its lines end."""
    words = f" {' '.join(text.split())} "
    return all(f" {' '.join(phrase.translate(PLAIN).split())} " in words for phrase in phrases)


@pytest.mark.parametrize("width", [80, 104])
def test_help_of_the_program(cli: Cli, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    status, out, err = cli("--help")
    assert (status, err) == (0, [])
    assert fits(out, width)
    assert out.partition("Groups")[0].count("python -m prunelit.train ") == 4  # the usage and three examples
    for group, meaning in GROUPS.items():
        assert any(line.split(maxsplit=1) == [group, meaning] for line in out.splitlines())
    for name, option in options_of(TopLevel).items():
        assert f"  {name}=" in out
        assert holds(out, option.meaning, f"Must be {option.expected}.")


def test_help_knows_every_group() -> None:
    assert set(GROUPS) == {path.name for path in CONFIGS.iterdir() if path.is_dir()} - {"hydra", "reproduce"}


@pytest.mark.parametrize("width", [80, 104])
@pytest.mark.parametrize("choice", ["pruner=synflow", "pruner=rigl", "scheduler=cosine", "data=folder"])
def test_help_of_a_choice(cli: Cli, monkeypatch: pytest.MonkeyPatch, choice: str, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    status, out, err = cli(choice, "--help")
    assert (status, err) == (0, [])
    assert fits(out, width)
    rows = rows_of_group(compose(choice), choice.partition("=")[0])
    assert rows
    for row in rows:
        default = "" if row.key == "pruner.criterion" else f"={row.default}"
        assert f"  {row.key}{default}\n".translate(PLAIN).replace(", ", ",") in out
        assert holds(out, row.meaning, f"Must be {row.expected}.")


def test_help_of_a_group_lists_its_choices_and_of_a_key_that_key(cli: Cli) -> None:
    _, out, _ = cli("pruner", "--help")
    assert all(f"  pruner={path.stem}\n" in out for path in (CONFIGS / "pruner").glob("*.yaml"))
    _, out, _ = cli("pruner.rounds", "--help")
    assert out.splitlines()[0] == "  pruner.rounds=100"
    assert len(out.splitlines()) < 6
    _, out, _ = cli("sweep", "--help")
    assert all(f"  sweep.{name}=" in out for name in options_of(SweepOptions))
    _, out, _ = cli("experiment=khanal_convnet", "--help")
    assert "  pruner.threshold=" in out


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        ("pruner=snipp", "pruner=snipp: "),
        ("pruner.round", "pruner.round: "),
        ("sweep.job", "sweep.job: "),
        ("experiment=khanal", "experiment=khanal: "),
        ("model._target_=torch.nn.Linaer", "model._target_=torch.nn.Linaer: "),
    ],
)
def test_help_of_what_does_not_exist(cli: Cli, asked: str, line: str) -> None:
    status, out, err = cli(asked, "--help")
    assert (status, out, len(err)) == (2, "", 1)
    assert err[0].startswith(line)
    assert "did you mean" in err[0] or "dotted path" in err[0]


@pytest.mark.parametrize("program", [report, export])
def test_help_of_the_other_programs(program, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as end:
        program.main(["--help"])
    out = capsys.readouterr().out
    assert end.value.code == 0
    assert f"examples:\n  {program.EXAMPLES.splitlines()[1].strip()}\n" in out
    assert fits(out, 80)

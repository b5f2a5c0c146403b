"""Help that is read in part."""

import subprocess
import sys


def test_help_whose_reader_has_gone_is_no_fault() -> None:
    command = [sys.executable, "-m", "prunelit.train", "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        program.stdout.close()
        assert program.stderr is not None
        assert "BrokenPipe" not in program.stderr.read()
    assert program.returncode == 141

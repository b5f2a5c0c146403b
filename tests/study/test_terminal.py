"""The table of a run at a terminal."""

from pathlib import Path

from prunelit.study.terminal import show_run


def test_names_are_printed_as_they_are(capsys) -> None:
    """A folder may be called what rich takes for markup."""
    zeros = ("kept", "prunable", "density", "flops_sparse", "flops_dense", "epochs")
    seconds = ("prune_seconds", "train_seconds", "test_seconds")
    result = dict.fromkeys((*zeros, *seconds), 0.0) | {
        **dict.fromkeys(("pruner", "model", "data"), "[bold]x"),
        **dict.fromkeys(("top1_before", "top1_after", "top1", "top5", "effective_density"), None),
        "seed": 0,
        "collapsed": [],
    }
    result |= {"kept": 1, "prunable": 2}
    row = {"layer": "[red]fc", "shape": "1x2", "kept": 1, "total": 2, "density": 0.5}
    show_run(Path("a[/b]/c"), result, [row | {"flops_sparse": 1.0, "flops_dense": 2.0}])
    printed = capsys.readouterr().out
    assert "files           a[/b]/c" in printed
    assert "[red]fc" in printed
    assert "[bold]x on [bold]x" in printed

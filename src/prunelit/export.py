"""The command that writes the network of each run, cut to what pruning left, for programs of other kinds.

python -m prunelit.export outputs/default/RUN
python -m prunelit.export outputs/default/RUN --format onnx --int8
python -m prunelit.export outputs/small/* --out programs
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunelit.exporting.destination import check_folder, target_of, write, write_card
from prunelit.exporting.recorded_run import description_of, network_of, whole_record
from prunelit.exporting.wanted import Wanted
from prunelit.request import BadRequest
from prunelit.study.integrity import DamagedRun
from prunelit.study.whole_words import WholeWords, wrapped

if TYPE_CHECKING:
    from prunelit.study.record import Record
    from prunelit.training.export.recorded_network import NetworkDescription

DESCRIPTION = "Write the network of each run, cut to what pruning left, and a card of what that saves."
EXAMPLES = """\
examples:
  python -m prunelit.export outputs/default/RUN
  python -m prunelit.export outputs/default/RUN --format onnx --int8
  python -m prunelit.export outputs/default/RUN --format safetensors
  python -m prunelit.export outputs/small/* --out programs
"""
MOST_IMAGES = 1000
"""The default number of test images for the comparison of networks."""


def export(
    run: Path,
    out: Path | None = None,
    format: str = "torch",
    int8: bool = False,
    batch: int | None = None,
    images: int = MOST_IMAGES,
) -> dict[str, Any]:
    """Write the network of a complete run without the units that pruning emptied, and say what that saves.

    What is written was compared with the run's network: on test images of the run if they are available,
    otherwise on images made with their mean and standard deviation.

    Args:
        run: the run's folder.
        out: the file to write, or an existing folder, which then gets a file named after the run; by default
            a file named ``compact`` in the run's folder. The format ``safetensors`` makes a folder instead.
        format: ``torch``, a ``torch.export`` program; ``onnx``; or ``safetensors``, for ``prunelit.load``.
            Programs take images, uint8 of shape (n, channels, height, width), and return logits; they
            normalise the images themselves.
        int8: write an ONNX program that multiplies eight-bit integers, calibrated on training images.
        batch: the number of images that a program takes; None: any.
        images: test images to compare with, evenly spaced over the test set.

    Returns:
        ``file``, and for ``dense`` (the network as trained, zeros and all) and ``compact`` the
        ``parameters``, the ``flops`` of one input (None where they cannot be counted), and the median
        ``milliseconds`` of a batch; ``timing`` says how these were measured: ``batch_size``, ``passes``,
        ``threads`` and ``device``. ``card`` is what ``card.json`` holds.

    Raises:
        DamagedRun: a file of the run is not the one that it wrote.
        BadRequest: not the folder of a complete run; a network that cannot be cut, that the format does not
            take or that would compute something else; a package that is missing; no place to write to.
    """
    wanted, record = Wanted(format, int8, batch), whole_record(run)
    from prunelit.training.export.recorded_network import importable_from

    description = description_of(record)
    with importable_from(description.working_folder):
        return _export(record, description, out, wanted, images)


def _export(
    record: Record, description: NetworkDescription, out: Path | None, wanted: Wanted, count: int
) -> dict[str, Any]:
    from prunelit.exporting.card import make_card
    from prunelit.exporting.probe_images import probe_images
    from prunelit.exporting.variants import make_variants
    from prunelit.pruning.compact import compact

    network = network_of(record, description)
    images = probe_images(record.folder, description, count)
    if wanted.int8 and images.training is None:
        allowed = "left out, as eight bits are calibrated on training images"
        raise BadRequest("--int8", "true", allowed, images.source)
    example = description.normalise(images.test[:2])
    try:
        small = compact(network, example)
        made = make_variants(network, small, description, images, wanted)
    except BadRequest:
        raise
    except ValueError as error:
        allowed = "a run whose network can be made smaller and exported"
        raise BadRequest("RUN", record.folder, allowed, str(error)) from error
    target = target_of(record.folder, out, wanted)
    card = make_card(record, made, images, wanted, example[:1])
    write(made.files, target)
    described = write_card(card, record.folder, target, wanted)
    return {"file": target, **_summary(card), "card": card, "card_file": described, "wanted": asdict(wanted)}


def _summary(card: dict[str, Any]) -> dict[str, Any]:
    """Return what the command prints first: the cost of both networks in PyTorch, with all its threads."""
    timed = [row for row in card["latency"] if row["runtime"] == "PyTorch"][-2:]
    costs = {row["name"]: row for row in card["networks"] if row["runtime"] == "PyTorch"}
    both = {
        row["name"]: {
            **{key: costs[row["name"]][key] for key in ("parameters", "flops")},
            "milliseconds": row["p50_ms"],
        }
        for row in timed
    }
    return {**both, "timing": {key: timed[0][key] for key in ("batch_size", "passes", "threads", "device")}}


def export_all(paths: Sequence[Path], out: Path | None = None, **options: Any) -> int:
    """Export each of ``paths``, print what that saves, and return the exit status.

    Of several paths, those that are no runs (files, reports, folders of another kind) are skipped with a
    line on standard error, as long as one is a run; a run that fails stops no other.
    """
    paths = list(dict.fromkeys(paths))
    runs = [path for path in paths if (path / "result.json").exists() or (path / "status.json").exists()]
    if not runs:
        runs = paths[:1]
    for path in paths:
        if path not in runs:
            print(f"skipped: {path} is not the folder of a run", file=sys.stderr)
    if len(runs) > 1 and out is not None:
        check_folder(out, runs)
    return max(_export_one(run, out, len(paths) > 1, options) for run in runs)


def _export_one(run: Path, out: Path | None, named: bool, options: dict[str, Any]) -> int:
    """Export one run and return the exit status: 0 for success, 1 for a damaged run, 2 for a wrong
    request."""
    try:
        done = export(run, out, **options)
    except BadRequest as error:
        print(error, file=sys.stderr)
        return 2
    except DamagedRun as error:
        print(error, file=sys.stderr)
        return 1
    if named:
        print(f"run      {run}")
    _show(done)
    return 0


def _show(done: dict[str, Any]) -> None:
    timing, card = done["timing"], done["card"]
    threads = f"{timing['threads']} thread" + "s" * (timing["threads"] > 1)
    for name in ("dense", "compact"):
        cost = done[name]
        flops = "unknown" if cost["flops"] is None else f"{cost['flops']:,.0f}"
        size = f"{cost['parameters']:>12,} parameters {flops:>15} FLOPs"
        print(f"{name:8} {size} {cost['milliseconds']:9.2f} ms")
    how = f"the median of {timing['passes']} passes of each, in turns, after a warm-up"
    print(f"timed    batches of {timing['batch_size']} on the {timing['device']} with {threads}: {how}")
    print(f"checked  with {card['checked_with']}: outputs differ by {card['largest_change']:.0e} at most")
    for row in card["networks"]:
        if row["top1"] is not None:
            print(f"accuracy {row['top1']:.2f} %: {row['name']} in {row['runtime']}")
    if done["card_file"] is not None:
        print(f"card     {done['card_file']}")
    print(f"written  {done['file']}", flush=True)


def _batch(text: str) -> int | None:
    """Return the number of images of a batch, None for any."""
    if text == "dynamic":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise BadRequest("--batch", text, "dynamic or an integer >= 1")
    return int(text)


def _images(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise BadRequest("--images", text, "an integer >= 1")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m prunelit.export",
        description=wrapped(DESCRIPTION),
        epilog=EXAMPLES,
        formatter_class=WholeWords,
    )
    parser.add_argument("runs", metavar="RUN", type=Path, nargs="+", help="folder of a complete run")
    parser.add_argument(
        "--out",
        type=Path,
        help="file to write, or a folder for programs named after their runs; default: compact.pt2 in RUN, "
        "compact.onnx, compact.int8.onnx, or the folder compact",
    )
    parser.add_argument(
        "--format",
        help="torch (default): a torch.export program; onnx; or safetensors: a folder for prunelit.load",
    )
    parser.add_argument(
        "--int8", action="store_true", help="an ONNX program that multiplies eight-bit integers"
    )
    parser.add_argument(
        "--batch", default="dynamic", help="images that a program takes: dynamic (default), or a number"
    )
    parser.add_argument(
        "--images", default=str(MOST_IMAGES), help=f"test images to compare on; default: {MOST_IMAGES}"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line; return the exit status: 0 for success, 1 for a damaged run, 2 for a wrong
    request."""
    given = _parser().parse_args(argv)
    try:
        chosen = given.format or ("onnx" if given.int8 else "torch")
        options = {"format": chosen, "int8": given.int8, "batch": _batch(given.batch)}
        Wanted(**options)
        return export_all(given.runs, given.out, **options, images=_images(given.images))
    except BadRequest as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())

"""Checks that the networks share: wrong options are refused before any weight is drawn."""

from __future__ import annotations

from prunelit.request import BadRequest

Shape = tuple[int, int, int]
"""An input's channels, height and width."""


def check_size(network: str, input_shape: Shape, least: int, example: int) -> None:
    """Raise `BadRequest` on ``data.size`` if an input is less than ``least`` pixels high or wide.

    Args:
        network: what the message calls the network.
        input_shape: channels, height, width.
        least: the smallest height and width that leave a pixel after the last pooling.
        example: the size the network was made for.
    """
    _, height, width = input_shape
    if min(height, width) < least:
        raise BadRequest(
            "data.size",
            f"{height}x{width}",
            f"{least} or more, such as {example}",
            why=f"the image is too small for {network}",
        )

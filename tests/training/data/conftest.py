"""Small data sets laid out on disk like the real ones."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

MakeTree = Callable[..., Path]


@pytest.fixture
def make_tree(tmp_path: Path) -> MakeTree:
    """Writes ``train/`` and ``test/`` with class folders of random PNG files."""

    def make(
        train: int = 7,
        test: int = 3,
        *,
        classes: str = "abc",
        side: int = 12,
        mode: str = "RGB",
        held: str = "test",
    ) -> Path:
        root, rng = tmp_path / "tree", np.random.default_rng(0)
        for split, number in (("train", train), (held, test)):
            for name in classes:
                folder = root / split / name
                folder.mkdir(parents=True)
                for i in range(number):
                    shape = (side, side, 3) if mode == "RGB" else (side, side)
                    Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(folder / f"{i:03}.png")
        return root

    return make


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, str]]:
    """A folder and the address at which a server on this machine hands out its files."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()

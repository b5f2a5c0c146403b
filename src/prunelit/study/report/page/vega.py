"""The script that draws the figures of the page, created in another process.

This takes more than a second, during which vl_convert keeps the interpreter lock.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

VEGA_LITE = "6.4"
"""The version that Altair 6 writes."""


@cache
def bundle() -> str:
    """Return Vega, Vega-Lite and vega-embed as one script: the global ``vegaEmbed``."""
    import vl_convert

    script = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=VEGA_LITE)
    # The block gives it a scope; a closing tag in a text would end the script element.
    return "{" + script.replace("</script", "<\\/script") + "}"


@contextmanager
def bundling() -> Iterator[Callable[[], str]]:
    """Yield a function that returns the :func:`bundle`, which another process computes in the meantime."""
    command = [sys.executable, "-m", __name__]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:

        @cache
        def made() -> str:
            told, _ = process.communicate()
            return bundle() if process.returncode else told.decode()  # errors of the process are raised here

        try:
            yield made
        finally:
            process.kill()


if __name__ == "__main__":
    sys.stdout.buffer.write(bundle().encode())

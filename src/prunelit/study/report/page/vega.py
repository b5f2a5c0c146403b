"""What draws the figures of the page, as one script, made in a process beside the report's.

It takes more than a second, in which vl_convert holds the interpreter's lock.
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
    # In a block its names are its own; a closing tag inside a text would end the script element.
    return "{" + script.replace("</script", "<\\/script") + "}"


@contextmanager
def bundling() -> Iterator[Callable[[], str]]:
    """Yield what returns :func:`bundle`, on which another process works from now on."""
    command = [sys.executable, "-m", __name__]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:

        @cache
        def made() -> str:
            told, _ = process.communicate()
            return bundle() if process.returncode else told.decode()  # what went wrong there is raised here

        try:
            yield made
        finally:
            process.kill()


if __name__ == "__main__":
    sys.stdout.buffer.write(bundle().encode())

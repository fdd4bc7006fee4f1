"""The programs as console commands: the Rust code of the programs of the same names, in this process."""

import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from . import _library, _native


def _run(main: Callable[[list[str]], int]) -> NoReturn:
    _library.name()
    # The program has its own handler, or none.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(main(sys.argv))


def score() -> NoReturn:
    """`seeward-score`."""
    _run(_native.score_main)


def evaluate() -> NoReturn:
    """`seeward-evaluate`."""
    _run(_native.evaluate_main)


def import_() -> NoReturn:
    """`seeward-import`."""
    _run(_native.import_main)


def export() -> NoReturn:
    """`seeward-export`."""
    _run(_native.export_main)


def serve() -> NoReturn:
    """`seeward-serve`."""
    _run(_native.serve_main)

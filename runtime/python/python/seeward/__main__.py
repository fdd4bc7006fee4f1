"""`python -m seeward score …`: the console commands, for this interpreter."""

import sys

from . import _programs

PROGRAMS = {
    "score": _programs.score,
    "evaluate": _programs.evaluate,
    "import": _programs.import_,
    "export": _programs.export,
    "serve": _programs.serve,
}

if __name__ == "__main__":
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in PROGRAMS:
        sys.exit(f"usage: python -m seeward {{{','.join(PROGRAMS)}}} ...")
    sys.argv[:2] = [f"seeward-{name}"]
    PROGRAMS[name]()

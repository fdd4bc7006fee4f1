"""`seeward.evaluate`: an evaluation from a notebook."""

from __future__ import annotations

import html
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import SeewardError


class Report(dict[str, Any]):
    """The content of `report.json`. A notebook shows the report's page."""

    def __init__(self, folder: Path) -> None:
        super().__init__(json.loads((folder / "report.json").read_text()))
        self.page = (folder / "report.html").read_text()
        """The page: HTML that needs no other file."""

    def _repr_html_(self) -> str:
        return f'<iframe srcdoc="{html.escape(self.page)}" style="width: 100%; height: 40em; border: 0"></iframe>'


def evaluate(
    model: str | os.PathLike[str],
    data: Mapping[str, str | os.PathLike[str]],
    *,
    output: str | os.PathLike[str] | None = None,
    **flags: Any,
) -> Report:
    """Measures the accuracy of a bundle on files of preferences, by the program `seeward-evaluate` in another process.

    data: the file of each set, by name. output: the folder for report.html, report.json and the scores, from which an
    interrupted evaluation resumes; without it the scores are temporary. Other arguments are the program's flags:
    `text_only_model="bundles/proxy"`, `no_resume=True`.

    Raises SeewardError with the program's message. Rows that fail are in the report, as `failed_rows`.

    >>> import seeward
    >>> rows = '{"prompt": "q", "img_path": "photos/1.png", "chosen": "Blue.", "rejected": "Red."}'
    >>> _ = open("pairs.jsonl", "w").write(rows)
    >>> seeward.evaluate("bundles/mine", {"mine": "pairs.jsonl"})["sets"]["mine"]["pairs"]
    1
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(output or scratch)
        command = [sys.executable, "-m", "seeward", "evaluate", "--model", os.fspath(model), "--output", os.fspath(folder)]
        for name, path in data.items():
            command += ["--data", f"{name}={os.fspath(path)}"]
        done = subprocess.run(command + as_flags(flags), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if done.returncode not in (0, 1):
            raise SeewardError(done.stderr.strip())
        return Report(folder)


def as_flags(given: Mapping[str, Any]) -> list[str]:
    """Keyword arguments as flags of a program; True is a flag without a value, and a list one for each item."""
    flags: list[str] = []
    for name, value in given.items():
        flag = "--" + name.replace("_", "-")
        values = value if isinstance(value, (list, tuple)) else [value]
        for item in values:
            if item is True:
                flags.append(flag)
            elif item is not None and item is not False:
                flags += [flag, str(item) if not isinstance(item, os.PathLike) else os.fspath(item)]
    return flags

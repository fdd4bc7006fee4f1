"""Sends the metrics of a training run to a tracker while they are written.

    python -m seeward.track out/mine --to wandb --project rewards

reads `out/mine/metrics.jsonl` from its beginning, then waits for further records until it is interrupted or, with `--once`,
ends with the file. The tracker's own package must be installed and configured (wandb, or trackio, whose interface is the
same).
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

METRICS = "metrics.jsonl"
TRACKERS = ("wandb", "trackio")


def records(path: Path, *, once: bool, pause: float = 1.0) -> Iterator[dict[str, Any]]:
    """The records of a file, whole lines only, and those that are added to it."""
    place = 0
    while True:
        with open(path, "rb") as file:
            file.seek(place)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                place += len(line)
                yield json.loads(line)
        if once:
            return
        time.sleep(pause)


def metrics(record: dict[str, Any], prefix: str = "") -> dict[str, float]:
    """The numbers of a record; those of objects within it by names with slashes."""
    found: dict[str, float] = {}
    for name, value in record.items():
        if isinstance(value, dict):
            found |= metrics(value, f"{prefix}{name}/")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            found[prefix + name] = value
    return found


def follow(run: Path, tracker: Any, *, once: bool, **options: Any) -> int:
    """Sends a run's records. Returns their number."""
    tracked, count = tracker.init(**options), 0
    try:
        for record in records(run / METRICS, once=once):
            values = metrics(record)
            step = values.pop("step", None)
            tracked.log(values, step=None if step is None else int(step))
            count += 1
    except KeyboardInterrupt:
        pass
    finally:
        tracked.finish()
    return count


def main(arguments: list[str] | None = None) -> int:
    """The command. Exit status 2 for a missing file or package."""
    parser = argparse.ArgumentParser(prog="python -m seeward.track", description="Sends metrics.jsonl to a tracker.")
    parser.add_argument("run", type=Path, help="the output folder of seeward-train")
    parser.add_argument("--to", choices=TRACKERS, required=True, help="the tracker, which must be installed")
    parser.add_argument("--project", required=True, help="the tracker's project")
    parser.add_argument("--name", help="the tracker's name of the run; the folder's by default")
    parser.add_argument("--once", action="store_true", help="end with the file instead of waiting for more")
    given = parser.parse_args(arguments)
    if not (given.run / METRICS).is_file():
        print(f"seeward.track: error: {given.run / METRICS}: no such file", file=sys.stderr)
        return 2
    try:
        tracker = importlib.import_module(given.to)
    except ImportError as error:
        print(f"seeward.track: error: {error}: pip install {given.to}", file=sys.stderr)
        return 2
    name = given.name or given.run.resolve().name
    count = follow(given.run, tracker, once=given.once, project=given.project, name=name)
    print(f"seeward.track: {count} records sent to {given.to}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())

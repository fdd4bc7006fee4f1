"""Metrics of a run, sent to a tracker."""

import json
import sys
import types

import pytest
from conftest import run_python

from seeward import track


class Tracker(types.ModuleType):
    """What wandb and trackio have in common."""

    def __init__(self):
        super().__init__("trackio")
        self.calls = []

    def init(self, **options):
        self.calls.append(("init", options))
        return self

    def log(self, values, step):
        self.calls.append((step, values))

    def finish(self):
        self.calls.append("finish")


@pytest.fixture
def run(tmp_path):
    records = [{"step": 1, "loss": 0.5, "note": "text", "dev": {"accuracy": 0.75}, "best": True}, {"step": 2, "loss": 0.25}]
    text = "".join(json.dumps(record) + "\n" for record in records)
    (tmp_path / track.METRICS).write_text(text + '{"step": 3, "lo')
    return tmp_path


def test_every_whole_record_is_sent(run, monkeypatch, capsys):
    tracker = Tracker()
    monkeypatch.setitem(sys.modules, "trackio", tracker)
    assert track.main([str(run), "--to", "trackio", "--project", "rewards", "--once"]) == 0
    assert tracker.calls == [
        ("init", {"project": "rewards", "name": run.name}),
        (1, {"loss": 0.5, "dev/accuracy": 0.75}),
        (2, {"loss": 0.25}),
        "finish",
    ]
    assert "2 records sent to trackio" in capsys.readouterr().err


def test_later_records_are_followed(run):
    following = track.records(run / track.METRICS, once=False, pause=0.01)
    assert [next(following)["step"] for _ in range(2)] == [1, 2]
    with open(run / track.METRICS, "a") as file:
        file.write('ss": 0.125}\n')
    assert next(following) == {"step": 3, "loss": 0.125}


def test_what_is_missing_is_named(run, tmp_path):
    code = "import sys; from seeward import track; sys.exit(track.main(sys.argv[1:]))"
    missing = run_python(code, run, "--to", "wandb", "--project", "p")
    assert missing.returncode == 2 and "pip install wandb" in missing.stderr
    missing = run_python(code, tmp_path / "none", "--to", "wandb", "--project", "p")
    assert missing.returncode == 2 and "metrics.jsonl: no such file" in missing.stderr

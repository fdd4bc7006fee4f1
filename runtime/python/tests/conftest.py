"""Golden files, and programs that cargo has built."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import seeward

ROOT = Path(__file__).resolve().parents[3]
GOLDEN = ROOT / "tests" / "golden"
BUNDLE = GOLDEN / "bundles" / "qwen2"
IMAGE = GOLDEN / "images" / "vqa0.png"
QUESTION = "what color is the shape?"
BINARIES = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug"


@pytest.fixture(scope="session")
def model():
    return seeward.RewardModel(BUNDLE)


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A folder as the examples of the documentation have it."""
    (tmp_path / "bundles").mkdir()
    (tmp_path / "bundles" / "mine").symlink_to(BUNDLE)
    (tmp_path / "photos").mkdir()
    for number in (1, 2):
        shutil.copy(GOLDEN / "images" / f"vqa{number - 1}.png", tmp_path / "photos" / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_python(code, *arguments, **options):
    """Runs code in a process for itself."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **options)


def console(name):
    """The path of a console command of the installed package."""
    return Path(seeward.__file__).parents[1] / "bin" / name

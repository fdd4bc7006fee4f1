"""The code of the pages and of the notebook runs as printed."""

import ast
import json
import re
import sys
import types
from pathlib import Path

import pytest
from conftest import ROOT

PAGES = ["docs/python.md", "runtime/python/README.md"]
PAIR = {"prompt": "q", "img_path": "photos/1.png", "chosen": "Blue.", "rejected": "Red."}


class Trainer:
    """TRL's, which calls the function once and trains nothing."""

    def __init__(self, model, reward_funcs, args, train_dataset):
        self.reward = reward_funcs

    def train(self):
        rewards = self.reward(prompts=["q", "q"], completions=["a", "b"], completion_ids=[[1], [2]], log_metric=lambda *_: None)
        assert len(rewards) == 2


@pytest.fixture
def trainers(monkeypatch):
    """Stand-ins of packages that the tests do not install."""
    trl, datasets = types.ModuleType("trl"), types.ModuleType("datasets")
    trl.GRPOTrainer, trl.GRPOConfig = Trainer, lambda output_dir: None
    datasets.load_dataset = lambda kind, data_files, split: []
    monkeypatch.setitem(sys.modules, "trl", trl)
    monkeypatch.setitem(sys.modules, "datasets", datasets)


def run(code, names):
    """Runs code; the value of its last line, if that is an expression."""
    tree = ast.parse(code)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "page", "exec"), names)
    return None if last is None else eval(compile(ast.Expression(last.value), "page", "eval"), names)


@pytest.mark.parametrize("page", PAGES)
def test_the_blocks_of_a_page_run_in_order(page, workplace, trainers):
    (workplace / "pairs.jsonl").write_text(json.dumps(PAIR) + "\n")
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)
    assert blocks
    names = {}
    for block in blocks:
        run(block, names)


def test_the_notebook_runs(workplace):
    notebook = json.loads(Path(ROOT, "runtime/python/examples/scoring.ipynb").read_text())
    names, shown = {}, []
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None
            shown.append(run("".join(cell["source"]), names))
    assert "<table>" in shown[0]._repr_html_() and len(shown[1]) == 2
    assert [error.image for error in shown[3]] == ["photos/none.png"] * 2
    assert "<iframe" in shown[4]._repr_html_() and shown[5] in (0.0, 1.0)


def test_the_page_begins_with_trl():
    blocks = (ROOT / "docs/python.md").read_text().split("```python\n")
    assert "from seeward.trl import RewardFunction" in blocks[1]

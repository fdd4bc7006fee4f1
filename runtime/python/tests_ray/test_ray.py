"""Scoring on a Ray cluster of two local nodes, parts of which are killed (make test-ray)."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

import seeward
from seeward.ray import Scorer, score

GOLDEN = Path(__file__).resolve().parents[3] / "tests" / "golden"
BUNDLE = GOLDEN / "bundles" / "qwen2"
IMAGE = GOLDEN / "images" / "vqa0.png"
ROWS, SHARDS = 4000, 8
NODE = {"num_cpus": 1, "object_store_memory": 100 << 20}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Rows, a few of them bad or blank, and the files of one run."""
    folder = tmp_path_factory.mktemp("whole")
    shutil.copy(IMAGE, folder / "1.png")
    lines = []
    for number in range(ROWS):
        image = "none.png" if number % 97 == 0 else "1.png"
        row = {"id": number, "prompt": f"q{number}", "img_path": image, "responses": ["a", f"b{number}"]}
        lines.append(json.dumps(row) + "\n" + "\n" * (number % 13 == 0))
    (folder / "rows.jsonl").write_text("".join(lines))
    command = [sys.executable, "-m", "seeward", "score", "--model", BUNDLE, "--input", folder / "rows.jsonl"]
    done = subprocess.run([*command, "--output", folder / "scores.jsonl", "--threads", "1"], capture_output=True)
    assert done.returncode == 1, done.stderr
    return folder


@pytest.fixture
def cluster():
    nodes = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    second = nodes.add_node(**NODE)
    nodes.wait_for_nodes()
    yield nodes, second
    ray.shutdown()
    nodes.shutdown()


def scorers():
    """(pid, parent's pid) of the processes that score shards."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().split(b"\0")
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if b"seeward" in command and b"--shard" in command:
            yield int(folder.name), parent


def has_begun(output):
    """Whether a shard has written and another is not finished."""
    return any(path.stat().st_size > 0 for path in output.parent.glob(f"{output.name}.shard-*[0-9]"))


def assert_as_one_run(output, whole):
    for name in ("scores.jsonl", "scores.jsonl.errors"):
        assert (output.parent / name).read_bytes() == (whole / name).read_bytes(), name


class Killer(threading.Thread):
    """Kills while it scores."""

    def __init__(self, kind, output, cluster):
        super().__init__(daemon=True)
        self.kind, self.output, self.cluster = kind, output, cluster
        self.kills, self.over = 0, threading.Event()

    def run(self):
        while not self.over.wait(random.uniform(0.2, 0.6)) and self.kills < 4:
            running = list(scorers())
            if not running or not has_begun(self.output):
                continue
            if self.kind == "node":
                nodes, second = self.cluster
                nodes.remove_node(second, allow_graceful=False)
                self.kills = 1
                return
            process, worker = random.choice(running)
            os.kill(process if self.kind == "child" else worker, signal.SIGKILL)
            self.kills += 1


@pytest.mark.parametrize("kind", ["nothing", "child", "worker", "node"])
def test_the_output_is_that_of_one_run_whatever_is_killed(kind, whole, cluster, tmp_path):
    ray.init(address=cluster[0].address, log_to_driver=False)
    output = tmp_path / "scores.jsonl"
    killer = Killer(kind, output, cluster)
    if kind != "nothing":
        killer.start()
    assert score(BUNDLE, whole / "rows.jsonl", output, shards=SHARDS) is False
    killer.over.set()
    assert kind == "nothing" or killer.kills > 0
    assert_as_one_run(output, whole)
    print(f"{kind}: {killer.kills} kills")


DRIVER = """
import sys, ray
from seeward.ray import score
ray.init(address=sys.argv[1], log_to_driver=False)
score(sys.argv[2], sys.argv[3], sys.argv[4], shards=8)
"""


def test_a_killed_driver_is_started_again(whole, cluster, tmp_path):
    output = tmp_path / "scores.jsonl"
    command = [sys.executable, "-c", DRIVER, cluster[0].address, BUNDLE, whole / "rows.jsonl", output]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as driver:
        while not has_begun(output):
            assert driver.poll() is None
            time.sleep(0.05)
        driver.kill()
    assert subprocess.run(command, capture_output=True).returncode == 0
    assert_as_one_run(output, whole)


def test_an_error_of_the_program_is_final(whole, cluster, tmp_path):
    ray.init(address=cluster[0].address, log_to_driver=False)
    start = time.monotonic()
    with pytest.raises(seeward.SeewardError, match=r"none/reward_model.json"):
        score(tmp_path / "none", whole / "rows.jsonl", tmp_path / "scores.jsonl", shards=4)
    assert time.monotonic() - start < 60


def test_ray_data_has_rewards_and_errors_as_columns(cluster):
    ray.init(address=cluster[0].address, log_to_driver=False)
    rows = [
        {"id": n, "prompt": f"q{n}", "responses": ["a", "b"], "img_path": str(IMAGE if n != 5 else "none.png")}
        for n in range(40)
    ]
    ray.data.DataContext.get_current().execution_options.preserve_order = True
    scored = ray.data.from_items(rows).map_batches(
        Scorer, fn_constructor_args=[str(BUNDLE)], batch_size=16, num_cpus=1, concurrency=1
    )
    model = seeward.RewardModel(BUNDLE, threads=1)
    for row in sorted(scored.take_all(), key=lambda row: row["id"]):
        assert "img_path" not in row and row["prompt"] == f"q{row['id']}"
        if row["id"] == 5:
            assert row["rewards"] is None and "none.png" in row["error"]
        else:
            assert row["error"] is None
            expected = model.score(row["prompt"], ["a", "b"], IMAGE)
            assert list(row["rewards"]) == pytest.approx(expected, abs=1e-5)

"""Times of a vision encoder's layers from ONNX Runtime's profiles, for runtime.py."""

import json
import os
import re
from collections import defaultdict

VARIABLE = "SEEWARD_ENGINE_PROFILE"
LAYER = re.compile(r"\.blocks\.(\d+)[./]")
# Operators of linear layers, with what follows in the same operator.
LINEAR = {"MatMul", "QuantizeRows", "Int8Linear", "Int8Hidden", "Bf16Linear", "Bf16Hidden"}


def times(scorer, bundle, rows):
    """For each layer its time and that of its linear layers, in microseconds."""
    folder = scorer.folder / f"profile-{bundle}"
    folder.mkdir()
    os.environ[VARIABLE] = str(folder)
    scorer.score(bundle, rows)
    del os.environ[VARIABLE]
    layers = defaultdict(lambda: [0, 0])
    [profile] = folder.glob("vision.onnx*")
    for event in json.loads(profile.read_text()):
        place = LAYER.search(event["name"])
        if event["cat"] != "Node" or place is None or not event["name"].endswith("_kernel_time"):
            continue
        layers[int(place[1])][0] += event["dur"]
        layers[int(place[1])][1] += event["dur"] * (event["args"]["op_name"] in LINEAR)
    return layers


def windowed(bench):
    """The time of the layers that attend within windows as a multiple of their linear layers' time."""
    full = bench.config["vision_config"].get("fullatt_block_indexes")
    if full is None or bench.target != "cpu":
        return
    rows = [ours for ours, _ in bench.rows(8)]
    for bundle in bench.bundles():
        layers = times(bench, bundle, rows)
        whole, linear = (sum(time[part] for index, time in layers.items() if index not in full) for part in (0, 1))
        print(f"{bundle}: layers with windows take {whole / linear:.2f} times as long as their linear layers")

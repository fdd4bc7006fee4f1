#!/usr/bin/env python3
"""Scoring speed: ours in fp32, bf16 and int8 compared with PyTorch, Hugging Face transformers' model of the same weights.

One image of 7 tiles, a question of 64 tokens, responses of 128 tokens; random weights of InternVL2-1B's widths, with 4 + 4
layers or all 24 + 24. With --config of a Qwen2.5-VL one image of 1024 patches. All take turns in one run; the median counts, in seconds per row. The rewards must agree, which shows
that equal work is compared.

fp32, …      ours: the CPU's bundles in fp32, bf16 and int8, scored by seeward-score from the row to the reward
             (with --device cuda:N the GPU's: fp32, fp16 and bf16)
a            PyTorch in the usual way: every response is a whole conversation with its image
b            eager PyTorch at its fastest: image and prompt once, their keys and values for all responses
c            the same through torch.compile
d            OpenVINO over our portable graphs, with the prefix once; int8 by NNCF's defaults (CPU only)

--cpu-time counts a row's CPU time on one thread instead of the elapsed time: for shared machines.

Measurements are kept in --results, and a rerun resumes from there.
"""

import argparse
import json
import random
import resource
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import family
import layers as vision_layers

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "third_party/peer"))
QUESTION, RESPONSE = 64, 128
OURS = {"cpu": {"fp32": [], "bf16": ["--dtype", "bf16"], "int8": ["--quantize", "int8"]},
        "cuda": {"fp32": [], "fp16": ["--dtype", "fp16"], "bf16": ["--dtype", "bf16"]}}
PEERS = {"a fp32": ("rows", "fp32"), "a bf16": ("rows", "bf16"), "b bf16": ("shared", "bf16"), "c bf16": ("compiled", "bf16")}
OPENVINO = {"d bf16": "bf16", "d int8": "int8"}
OTHERS = {"cpu": [*PEERS, *OPENVINO], "cuda": [*PEERS]}
# For rewards that differ from each other by about 0.1; in bf16 and int8 they are rounded.
TOLERANCE = {"a fp32": 1e-4, "a bf16": 5e-2, "b bf16": 5e-2, "c bf16": 5e-2, "d bf16": 5e-2, "d int8": 2e-1, "int8": 5e-2,
             "fp16": 5e-2, "bf16": 5e-2}
DIGITS = {"cpu": 2, "cuda": 4}
RATIOS = {"cpu": [("a bf16", "fp32"), ("a bf16", "bf16"), ("b bf16", "bf16"), ("a bf16", "int8"), ("b bf16", "int8"),
                  ("d bf16", "bf16"), ("d int8", "int8")],
          "cuda": [("a fp32", "fp32"), ("a bf16", "bf16"), ("b bf16", "bf16")]}


def target_of(device):
    """The export target of bundles for the device."""
    return device.split(":")[0]


def say(message):
    print("bench/runtime.py: " + message, file=sys.stderr, flush=True)


def run(program, *arguments):
    done = subprocess.run([str(part) for part in (program, *arguments)], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"bench/runtime.py: error: {program} failed: {done.stderr.strip()}")


def random_checkpoint(arguments, layers, folder):
    """Random weights of the config's widths."""
    config = json.loads(arguments.config.read_text())
    family.of(config).shrunk(config, layers)
    (folder / "config.json").write_text(json.dumps(config))
    run(arguments.programs / "seeward-fixture", "checkpoint", "--config", folder / "config.json", "--output",
        folder / "checkpoint", "--score-head", "--dtype", "bf16", "--tokenizer", arguments.tokenizer)
    return folder / "checkpoint"


class Material:
    """Rows of text and images, for both sides."""

    def __init__(self, checkpoint, folder, tiles=None):
        from tokenizers import Tokenizer

        self.family = family.of(json.loads((checkpoint / "config.json").read_text()))
        self.checkpoint, self.folder, self.tiles = checkpoint, folder, tiles or self.family.TILES
        self.tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
        self.random = random.Random(0)

    def text(self, tokens):
        """Words that make exactly `tokens` tokens."""
        text = ""
        while True:
            word = "".join(self.random.choices("abcdefghijklmnopqrstuvwxyz", k=self.random.randint(1, 4)))
            longer = (text + " " + word).strip()
            count = len(self.tokenizer.encode(longer, add_special_tokens=False).ids)
            if count <= tokens:
                text = longer
            if count == tokens:
                return text

    def image(self, name):
        """Tiles in a row, each smooth with a little noise: a bitmap file, and the same pixels in tiles."""
        import numpy as np

        noise = np.random.default_rng(self.random.randrange(1 << 30))
        coarse = noise.integers(0, 256, (8, 8 * self.tiles, 3)).repeat(family.SIDE // 8, 0).repeat(family.SIDE // 8, 1)
        pixels = np.clip(coarse + noise.integers(-20, 20, coarse.shape), 0, 255).astype(np.uint8)
        height, width, _ = pixels.shape
        head = struct.pack("<2sIHHI", b"BM", 54 + pixels.size, 0, 0, 54)
        head += struct.pack("<IiiHHIIiiII", 40, width, -height, 1, 24, 0, pixels.size, 0, 0, 0, 0)
        (self.folder / f"{name}.bmp").write_bytes(head + pixels[:, :, ::-1].tobytes())
        tiles = self.folder / f"{name}.npy"
        np.save(tiles, np.stack(np.split(pixels, self.tiles, axis=1)))
        return tiles

    def row(self, responses, name, question_tokens=QUESTION):
        """The row for seeward-score, and the same with the template written out, for the peer."""
        tiles = self.image(name)
        question, answers = self.text(question_tokens), [self.text(RESPONSE) for _ in range(responses)]
        ours = {"prompt": question, "img_path": f"{name}.bmp", "responses": answers}
        return ours, {"prompt": self.family.prompt(question, self.tiles), "tiles": str(tiles),
                      "responses": [answer + self.family.END for answer in answers]}


class Peer:
    """Another program of this folder, which answers questions."""

    def __init__(self, script, *arguments):
        program = [sys.executable, ROOT / "scripts/bench" / script, *arguments]
        self.process = subprocess.Popen([str(part) for part in program], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True)

    @classmethod
    def pytorch(cls, checkpoint, threads, device="cpu"):
        return cls("runtime_peer.py", "--checkpoint", checkpoint, "--device", device, "--threads", threads)

    def ask(self, **question):
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            sys.exit("bench/runtime.py: error: the peer ended")
        return json.loads(line)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Scorer:
    """Scores rows by bundles in one folder."""

    def __init__(self, arguments, folder, material):
        self.arguments, self.folder, self.material = arguments, folder, material

    def score(self, bundle, rows):
        file, output, stats = (self.folder / name for name in ("rows.jsonl", "scores.jsonl", "stats.json"))
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        run(self.arguments.programs / "seeward-score", "--model", self.folder / bundle, "--input", file, "--output", output,
            "--no-resume", "--stats", stats, "--device", self.arguments.device, "--threads", self.arguments.threads)
        stats = json.loads(stats.read_text())
        scores = [json.loads(line)["score"] for line in output.open()]
        engine = stats["seconds"] * stats["engine_busy"]
        return {"seconds": stats["seconds"] / len(rows), "engine": engine / len(rows), "rewards": scores[:len(rows[0]["responses"])]}

    def warm(self, bundle, rows):
        """As `score`, without the extra time of a GPU's first row, in which its libraries load their kernels."""
        first, measured = self.score(bundle, rows[:1]), self.score(bundle, rows)
        without = lambda key: (measured[key] * len(rows) - first[key]) / (len(rows) - 1)
        return {**measured, "seconds": without("seconds"), "engine": without("engine")}

    def cpu_time(self, bundle, rows):
        """As `score`; the time for loading is subtracted by scoring one row fewer."""
        spent = lambda: sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
        start = spent()
        self.score(bundle, rows[1:])
        middle = spent()
        measured = self.score(bundle, rows)
        return {**measured, "seconds": (spent() - middle) - (middle - start)}


class Bench(Scorer):
    """One depth: its checkpoint, bundles, rows and peers."""

    def __init__(self, arguments, layers, folder):
        self.arguments, self.layers, self.folder = arguments, layers, folder
        say(f"{layers} + {layers} layers: random weights")
        self.checkpoint = random_checkpoint(arguments, layers, folder)
        self.config = json.loads((self.checkpoint / "config.json").read_text())
        self.family, self.target = family.of(self.config), target_of(arguments.device)
        for name, flags in OURS[self.target].items():
            run(arguments.programs / "seeward-export", "--checkpoint", self.checkpoint, "--output", folder / name,
                "--target", self.target, *flags)
        self.material = Material(self.checkpoint, folder)
        self.peer = Peer.pytorch(self.checkpoint, arguments.threads, arguments.device)
        self.openvino = None
        self.pairs = {}

    def rows(self, responses):
        """One row for the peer, which is the first of those that seeward-score scores at once, each with its own image."""
        if responses not in self.pairs:
            count = self.arguments.rows
            self.pairs[responses] = [self.material.row(responses, f"{responses}-{index}") for index in range(count)]
        return self.pairs[responses]

    def measure(self, way, responses):
        rows = self.rows(responses)
        if way in OURS[self.target]:
            score = self.cpu_time if self.arguments.cpu_time else self.score
            score = self.warm if self.target == "cuda" else score
            return score(way, [ours for ours, _ in rows])
        if way in OPENVINO:
            answer = self.ask_openvino(OPENVINO[way], rows[0][1])
        else:
            mode, dtype = PEERS[way]
            answer = self.peer.ask(way=mode, dtype=dtype, row=rows[0][1])
        if "missing" in answer:
            return answer
        if answer.get("chosen"):
            say(f"attention in {dtype}: " + ", ".join(f"{part} {kind}" for part, kind in answer["chosen"].items()))
        clock = "cpu_seconds" if self.arguments.cpu_time else "seconds"
        return {"seconds": answer[clock], "rewards": answer["rewards"]}

    def bundles(self):
        return OURS[self.target]

    def ask_openvino(self, dtype, row):
        if self.openvino is None:
            bundle = self.folder / "portable"
            run(self.arguments.programs / "seeward-export", "--checkpoint", self.checkpoint, "--output", bundle)
            self.openvino = Peer("openvino_peer.py", "--bundle", bundle, "--threads", self.arguments.threads)
        return self.openvino.ask(dtype=dtype, row=row)

    def close(self):
        for peer in filter(None, [self.peer, self.openvino]):
            peer.close()

    def parts(self, bundle):
        """Seconds of the vision encoder for an image, and of the language model for a row of 8 responses. Rows with the
        same image encode it once, so that the difference to rows with different images is the encoder's time."""
        rows = [ours for ours, _ in self.rows(8)]
        same = [{**row, "img_path": rows[0]["img_path"]} for row in rows]
        score = self.warm if self.target == "cuda" else self.score
        different, equal = score(bundle, rows), score(bundle, same)
        vision = (different["engine"] - equal["engine"]) * len(rows) / (len(rows) - 1)
        return {"vision": vision, "LLM": different["engine"] - vision}

    def operations(self, responses):
        """Floating-point operations of a row."""
        return self.family.operations(self.config, self.layers, QUESTION, RESPONSE, responses)


class Results:
    """The measurements, one per line."""

    def __init__(self, path):
        self.path = path
        self.lines = [json.loads(line) for line in path.open()] if path.exists() else []

    def of(self, **keys):
        return [line for line in self.lines if keys.items() <= line.items()]

    def add(self, **line):
        self.lines.append(line)
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def median(self, **keys):
        return statistics.median(line["seconds"] for line in self.of(**keys))


def rounds_of(arguments, way, layers, responses):
    """How many times a cell is measured: once, and in bf16 only, where (a) takes minutes."""
    if way.startswith("a") and (responses >= arguments.slow or layers != arguments.layers):
        return int(way == "a bf16")
    return arguments.rounds if layers == arguments.layers else 1


def fill(bench, results, responses, ways):
    """The cells of one count of responses, the ways taking turns."""
    cell = lambda way: {"way": way, "layers": bench.layers, "responses": responses}
    for turn in range(bench.arguments.rounds):
        for way in ways:
            wanted = rounds_of(bench.arguments, way, bench.layers, responses)
            if len(results.of(**cell(way))) > turn or turn >= wanted:
                continue
            start = time.time()
            measured = bench.measure(way, responses)
            if "missing" in measured:
                say(f"{responses} responses, {way}: not measured: {measured['missing']}")
                continue
            results.add(**cell(way), **measured)
            say(f"{responses} responses, {way}: {measured['seconds']:.2f} s (round {turn + 1} of {wanted}, {time.time() - start:.0f} s)")
    compare(results, bench.layers, responses)


def compare(results, layers, responses):
    """Ends the run if the rewards of the two sides disagree."""
    rewards = {line["way"]: line["rewards"] for line in results.of(layers=layers, responses=responses)}
    for way, values in rewards.items():
        difference = max((abs(a - b) for a, b in zip(values, rewards.get("fp32", values))), default=0)
        if difference > TOLERANCE.get(way, 0):
            sys.exit(f"bench/runtime.py: error: {responses} responses, {way}: rewards differ by up to {difference:.1e} from ours in fp32")


def table(results, target, layers, numbers):
    ways, ratios = [*OURS[target], *OTHERS[target]], RATIOS[target]
    print(f"\n{layers} + {layers} layers, seconds a row" + "".join(f"{way:>9}" for way in ways)
          + "".join(f"{a.split()[0] + '/' + b:>9}" for a, b in ratios))
    for responses in numbers:
        seconds = {way: results.median(way=way, layers=layers, responses=responses)
                   for way in ways if results.of(way=way, layers=layers, responses=responses)}
        cells = [f"{seconds[way]:9.{DIGITS[target]}f}" if way in seconds else f"{'-':>9}" for way in ways]
        ratio = lambda a, b: f"{seconds[a] / seconds[b]:9.1f}" if {a, b} <= seconds.keys() else f"{'-':>9}"
        print(f"{responses:>4} responses{'':17}" + "".join(cells) + "".join(ratio(a, b) for a, b in ratios))


def roofline(bench):
    """The rate of each part compared with a large matrix product of the same type, computed by PyTorch."""
    rates = bench.peer.ask(way="rates")
    print("\nmatrix products, GFLOP/s: " + ", ".join(f"{name} {rate / 1e9:.0f}" for name, rate in rates.items()))
    work = bench.operations(8)
    alone, shared = (sum(bench.operations(count).values()) / 1e12 for count in (1, 8))
    print(f"work of a row of 8 responses: {8 * alone:.2f} TFLOP with every response a row, {shared:.2f} shared")
    for bundle in OURS[bench.target]:
        for part, seconds in bench.parts(bundle).items():
            rate = work[part] / seconds
            print(f"{bundle} {part:6} of 8 responses: {seconds:6.{DIGITS[bench.target]}f} s, {rate / 1e9:5.0f} GFLOP/s, "
                  f"{100 * rate / rates[bundle]:3.0f} % of the products' rate")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=ROOT / "tests/golden/configs/InternVL2-1B.json")
    parser.add_argument("--tokenizer", type=Path, help="folder [default: that of the config's family]")
    parser.add_argument("--layers", type=int, default=4, help="layers of each part")
    parser.add_argument("--full", type=int, default=0, help="layers of each part for one more row of 8 responses, measured once [0: none]")
    parser.add_argument("--responses", default="1,8,32,64")
    parser.add_argument("--ways", help="[default: all of the device]")
    parser.add_argument("--device", default="cpu", help="device of both sides: cpu or cuda:N")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--slow", type=int, default=16, help="responses from which (a) is measured once, in bf16 only")
    parser.add_argument("--no-roofline", action="store_true", help="skip the comparison with a matrix product's rate")
    parser.add_argument("--rows", type=int, default=4, help="rows that seeward-score scores at once, each with its own image")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cpu-time", action="store_true", help="count CPU time, of one thread")
    parser.add_argument("--results", type=Path, default=ROOT / "out/bench_runtime.jsonl")
    parser.add_argument("--folder", type=Path, default=ROOT / "out", help="folder for the temporary gigabytes")
    parser.add_argument("--programs", type=Path, default=ROOT / "target/release")
    arguments = parser.parse_args()
    if arguments.cpu_time:
        arguments.threads, arguments.no_roofline = 1, True

    family_of_config = family.of(json.loads(arguments.config.read_text()))
    arguments.tokenizer = arguments.tokenizer or family_of_config.TOKENIZER
    target = target_of(arguments.device)
    others = [way for way in OTHERS[target] if way not in OPENVINO or family_of_config.OPENVINO]
    numbers = [int(number) for number in arguments.responses.split(",")]
    ways = arguments.ways.split(",") if arguments.ways else [*OURS[target], *others]
    arguments.folder.mkdir(parents=True, exist_ok=True)
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    results = Results(arguments.results)
    plan = [(arguments.layers, numbers)] + ([(arguments.full, [8])] if arguments.full else [])
    for layers, counts in plan:
        with tempfile.TemporaryDirectory(prefix="bench_runtime.", dir=arguments.folder) as folder:
            bench = Bench(arguments, layers, Path(folder))
            for responses in counts:
                fill(bench, results, responses, ways)
            table(results, target, layers, counts)
            if not arguments.no_roofline:
                roofline(bench)
                vision_layers.windowed(bench)
            bench.close()


if __name__ == "__main__":
    main()

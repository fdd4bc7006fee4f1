"""Console commands: the bytes and exit codes of the programs."""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import time

import pytest
from conftest import BINARIES, BUNDLE, GOLDEN, IMAGE, ROOT, console

BINARY_ENVIRONMENT = {**os.environ, "ORT_DYLIB_PATH": str(ROOT / "third_party/onnxruntime/libonnxruntime.so")}


def both(folder, name, *arguments):
    """What the binary and the console command did: exit code, output, and the files that they wrote."""
    outcomes = []
    for kind, program, environment in [
        ("binary", BINARIES / name, BINARY_ENVIRONMENT),
        ("console", console(name), None),
    ]:
        # The same name for both: paths are in the output.
        place = folder / "place"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        given = [str(argument).replace("PLACE", str(place)) for argument in arguments]
        done = subprocess.run([program, *given], cwd=place, env=environment, capture_output=True, timeout=60)
        files = {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}
        outcomes.append((done.returncode, done.stdout, done.stderr, files, kind))
    return outcomes


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    shutil.copy(IMAGE, folder / "1.png")
    rows = [{"id": n, "prompt": f"q{n}", "img_path": "1.png", "responses": ["a", f"b{n}"]} for n in range(70)]
    rows[5]["img_path"] = "none.png"
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_scores_are_the_same_bytes(rows, tmp_path):
    binary, command = both(tmp_path, "seeward-score", "--model", BUNDLE, "--input", rows, "--output", "PLACE/s.jsonl")
    assert command[0] == binary[0] == 1
    assert command[1] == binary[1]
    assert command[3].keys() == binary[3].keys()
    for name in ("s.jsonl", "s.jsonl.errors"):
        assert command[3][name] == binary[3][name]
    assert command[3]["s.jsonl"].count(b"\n") == 138


def test_scores_of_a_batch_are_those_of_the_program(model, rows, tmp_path):
    _, command = both(tmp_path, "seeward-score", "--model", BUNDLE, "--input", rows, "--output", "PLACE/s.jsonl")
    written = iter([json.loads(line)["score"] for line in command[3]["s.jsonl"].splitlines()])
    given = [json.loads(line) for line in rows.read_text().splitlines()]
    requests = [
        {"prompt": row["prompt"], "responses": row["responses"], "images": rows.parent / row["img_path"]} for row in given
    ]
    for number, scores in enumerate(model.score_batch(requests)):
        if number == 5:
            assert isinstance(scores, Exception)
        else:
            # Written as the shortest decimals that read back as the same f32.
            import numpy

            assert [numpy.float32(next(written)) for _ in scores.rewards] == [numpy.float32(r) for r in scores.rewards]


def test_bundles_are_the_same_bytes(tmp_path):
    checkpoint = GOLDEN / "models" / "qwen2"
    binary, command = both(tmp_path, "seeward-export", "--checkpoint", checkpoint, "--output", "PLACE/bundle")
    assert command[0] == binary[0] == 0, command[2]
    assert command[3] == binary[3] and "bundle/reward.onnx" in command[3]


def test_imported_rows_are_the_same_bytes(tmp_path):
    parquet = ROOT / "runtime/cli/tests/parquet/rlhf-v.parquet"
    binary, command = both(tmp_path, "seeward-import", "--input", parquet, "--output", "PLACE/rows")
    assert command[0] == binary[0] == 1 and b"2 rows failed" in command[2], command[2]
    assert command[3] == binary[3] and "rows/rows.jsonl" in command[3]


def test_reports_are_the_same(tmp_path):
    pairs = tmp_path / "pairs.jsonl"
    pair = {"prompt": "q", "img_path": str(IMAGE), "chosen": "a", "rejected": "b"}
    pairs.write_text(json.dumps(pair) + "\n")
    flags = ["--model", BUNDLE, "--data", f"x={pairs}", "--allow-outside-root", "--output", "PLACE/report"]
    binary, command = both(tmp_path, "seeward-evaluate", *flags)
    assert command[0] == binary[0] == 0, command[2]
    assert command[1] == binary[1]
    assert b"report.html" in b"".join(name.encode() for name in command[3])


@pytest.mark.parametrize("name", ["score", "evaluate", "import", "export", "serve"])
def test_versions_help_and_wrong_flags_are_the_same(name, tmp_path):
    for flags, code in [(["--version"], 0), (["--help"], 0), (["--nothing"], 2)]:
        binary, command = both(tmp_path, f"seeward-{name}", *flags)
        assert command[:3] == binary[:3] and command[0] == code


def test_a_service_answers_and_ends_as_asked(tmp_path):
    place = tmp_path / "socket"
    with subprocess.Popen([console("seeward-serve"), "--model", BUNDLE, "--listen", f"unix:{place}"]) as process:
        client = http.client.HTTPConnection("localhost")
        client.sock = socket.socket(socket.AF_UNIX)
        while client.sock.connect_ex(str(place)) != 0:
            time.sleep(0.01)
            assert process.poll() is None
        client.request("GET", "/live")
        assert client.getresponse().status == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) in (0, 128 + signal.SIGTERM)


def test_an_interrupted_command_resumes(rows, tmp_path):
    whole = tmp_path / "whole.jsonl"
    many = rows.parent / "many.jsonl"
    many.write_text(rows.read_text() * 40)
    flags = [console("seeward-score"), "--model", BUNDLE, "--input", many, "--output"]
    assert subprocess.run([*flags, whole], capture_output=True).returncode == 1
    output = tmp_path / "interrupted.jsonl"
    with subprocess.Popen([*flags, output], stderr=subprocess.PIPE, text=True) as process:
        while not output.exists() or output.stat().st_size == 0:
            time.sleep(0.005)
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
    assert process.returncode == 130, said
    assert "interrupted by SIGINT: rerun the same command to resume" in said
    assert 0 < output.stat().st_size < whole.stat().st_size
    assert subprocess.run([*flags, output], capture_output=True).returncode == 1
    assert output.read_bytes() == whole.read_bytes()

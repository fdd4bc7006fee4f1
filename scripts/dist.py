#!/usr/bin/env python3
"""A tarball of the programs with ONNX Runtime's library, in out/dist/, and its check in an empty root.

It has seeward-score, -evaluate, -import, -export and -serve (training needs LibTorch), their man pages and completions, the
service's deployment files, and the licences of everything in it. Its name says the least glibc that it runs on.

The check unpacks it into a root that has nothing but the C and C++ libraries and /proc, scores a golden bundle there and asks
the service; the rewards must be those of the programs here. It needs user namespaces (`unshare`).
"""

import argparse
import gzip
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.request
from pathlib import Path

from wheel import rust_notices

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "out/dist"
PACKAGES = ["seeward-cli", "seeward-export", "seeward-serve"]
PROGRAMS = ["seeward-score", "seeward-evaluate", "seeward-import", "seeward-export", "seeward-serve"]
LIBRARIES = {
    "cpu": ["third_party/onnxruntime/libonnxruntime.so"],
    "cuda": ["third_party/cuda/onnxruntime/capi/libonnxruntime" + end
             for end in [".so", "_providers_shared.so", "_providers_cuda.so", "_providers_tensorrt.so"]],
}
NOTICES = {"cpu": ["third_party/onnxruntime/LICENSE", "third_party/onnxruntime/ThirdPartyNotices.txt"],
           "cuda": ["third_party/cuda/onnxruntime/LICENSE", "third_party/cuda/onnxruntime/ThirdPartyNotices.txt"]}
BUNDLE, IMAGE = ROOT / "tests/golden/bundles/qwen2", ROOT / "tests/golden/images/vqa0.png"
TOLERANCE = 1e-5


def fail(message):
    sys.exit(f"dist.py: error: {message}")


def run(*command, **options):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    if done.returncode != 0:
        fail(f"{' '.join(map(str, command))}: {done.stderr.strip() or done.returncode}")
    return done.stdout


def least_glibc(files):
    """The newest version of glibc that one of the files asks for."""
    versions = [(0, 0)]
    for file in files:
        found = re.findall(r"\bGLIBC_(\d+)\.(\d+)", run("readelf", "--wide", "--version-info", file))
        versions += [(int(major), int(minor)) for major, minor in found]
    return "{}.{}".format(*max(versions))


def stage(device, folder):
    """Lays out the tarball's files; its libraries and programs."""
    binaries = folder / "bin"
    binaries.mkdir(parents=True)
    built = [ROOT / "target/release" / name for name in PROGRAMS]
    files = [Path(shutil.copy(file, binaries / Path(file).name)) for file in built + [ROOT / path for path in LIBRARIES[device]]]
    for name in PROGRAMS:
        run(binaries / name, env={**os.environ, "SEEWARD_WRITE_MANUAL": str(folder / "share")})
    shutil.copytree(ROOT / "runtime/serve/deploy", folder / "deploy")
    shutil.copytree(ROOT / "runtime/serve/clients", folder / "clients", ignore=shutil.ignore_patterns("__pycache__"))
    for file in ["LICENSE", "CHANGELOG.md", "docs/scoring.md", "docs/serving.md"]:
        shutil.copy(ROOT / file, folder)
    (folder / "licences").mkdir()
    (folder / "licences/crates.txt").write_text(rust_notices(*PACKAGES))
    for notice in NOTICES[device]:
        path = ROOT / notice
        if not path.is_file():
            fail(f"{notice} is missing: run make setup")
        shutil.copy(path, folder / "licences" / ("onnxruntime-" + path.name))
    return files


def pack(folder, name):
    """The tarball; the same files make the same bytes."""

    def plain(info):
        info.uid = info.gid = info.mtime = 0
        info.uname = info.gname = "root"
        info.mode = 0o755 if info.isdir() or info.mode & 0o100 else 0o644
        return info

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path in sorted(folder.rglob("*")):
            archive.add(path, f"{name}/{path.relative_to(folder)}", recursive=False, filter=plain)
    OUT.mkdir(parents=True, exist_ok=True)
    path = OUT / (name + ".tar.gz")
    path.write_bytes(gzip.compress(buffer.getvalue(), mtime=0))
    return path


def empty_root(tarball, root):
    """The unpacked tarball and what every Debian has: the loader and the C and C++ libraries. The folder of the programs."""
    with tarfile.open(tarball) as archive:
        archive.extractall(root / "opt", filter="data")
    binaries = next((root / "opt").iterdir()) / "bin"
    for file in binaries.iterdir():
        for library in re.findall(r"(/\S+) \(0x", run("ldd", file)):
            if not library.startswith(str(root)):
                (root / library.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(library, root / library.lstrip("/"))
    for name in ["proc", "tmp", "data"]:
        (root / name).mkdir()
    shutil.copytree(BUNDLE, root / "data/bundle")
    shutil.copy(IMAGE, root / "data/image.png")
    return Path("/") / binaries.relative_to(root)


def inside(root, *command):
    """A command line that runs a command in the root."""
    mount = f"mount -t proc proc {root}/proc && exec chroot {root} \"$@\""
    return ["unshare", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", mount, "sh", *map(str, command)]


def score(command, data, row):
    """The scores of a row by seeward-score, which sees the root's data in the folder `data`."""
    arguments = ["--model", data / "bundle", "--input", "-", "--output", "-", "--image-root", data]
    output = run(*command, *arguments, input=json.dumps(row), env={})
    return [json.loads(line)["score"] for line in output.splitlines()]


def ask_service(command, root, row):
    """The rewards of a row by the service in the root."""
    log = root / "tmp/log"
    with log.open("w") as file:
        process = subprocess.Popen(command, stderr=file, env={})
    try:
        end = time.monotonic() + 60
        while "ready" not in log.read_text():
            if process.poll() is not None or time.monotonic() > end:
                fail(f"the service in the empty root did not start: {log.read_text()}")
            time.sleep(0.1)
        url = re.search(r"http://[\d.]+:\d+", log.read_text())[0] + "/v1/rewards"
        request = urllib.request.Request(url, json.dumps(row).encode(), {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as reply:
            return json.load(reply)["results"][0]["rewards"]
    finally:
        process.kill()
        process.wait()


def check(tarball):
    """Compares the rewards of the unpacked programs, outside and inside of the root."""
    row = {"prompt": "what color?", "images": ["image.png"], "responses": ["Red.", "It is blue."]}
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        binaries = empty_root(tarball, root)
        outside = root / binaries.relative_to("/")
        expected = score([ROOT / "target/release/seeward-score"], root / "data", row)
        scored = score(inside(root, binaries / "seeward-score"), Path("/data"), row)
        flags = ["--model", "/data/bundle", "--listen", "127.0.0.1:0", "--image-root", "/data"]
        served = ask_service(inside(root, binaries / "seeward-serve", *flags), root, row)
        for kind, rewards in [("seeward-score", scored), ("seeward-serve", served)]:
            if len(rewards) != 2 or max(abs(one - other) for one, other in zip(rewards, expected)) > TOLERANCE:
                fail(f"{kind} in the empty root: expected {expected}, got {rewards}")
        check_unit(outside)


def check_unit(binaries):
    """The systemd unit, with the programs where they are now."""
    if not shutil.which("systemd-analyze"):
        print("dist.py: the systemd unit was not checked: no systemd-analyze", file=sys.stderr)
        return
    unit = binaries.parent / "deploy/seeward-serve.service"
    unit.write_text(unit.read_text().replace("/opt/seeward/bin", str(binaries)))
    run("systemd-analyze", "verify", unit)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="the device of ONNX Runtime's library")
    device = parser.parse_args().device
    version = re.search(r'^version = "(.+)"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[1]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = stage(device, folder)
        suffix = "-cuda13" if device == "cuda" else ""
        tarball = pack(folder, f"seeward-{version}-x86_64-glibc{least_glibc(files)}{suffix}")
    if device == "cpu":
        check(tarball)
    ran = "ran in an empty root" if device == "cpu" else "not run: that needs a GPU"
    print(f"{tarball.relative_to(ROOT)}: {tarball.stat().st_size / 2**20:.0f} MiB, {ran}")


if __name__ == "__main__":
    main()

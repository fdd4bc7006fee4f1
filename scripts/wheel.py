#!/usr/bin/env python3
"""Builds the Python package `seeward`.

With --release: dist/seeward-….whl, optimised, for every Linux with glibc 2.28 (make wheel). The linker comes with Zig,
which is fetched for this alone. Without it: a wheel for this machine in cargo's dev profile, unpacked into target/python/
and tested by pytest (make test), or with --ray on a local cluster (make test-ray); further arguments are pytest's.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import setup
from setup import ROOT, THIRD_PARTY, Part, SetupError

PACKAGE = ROOT / "runtime" / "python"
LIBRARY = PACKAGE / "python" / "seeward" / "lib"
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
UNPACKED = TARGET / "python"
LICENCE_NAMES = ("LICENSE", "LICENCE", "COPYING", "NOTICE", "UNLICENSE")

MATURIN = Part("maturin", {"maturin-1.16.0.data/scripts/maturin": "maturin"})
PYTEST = Part("pytest", {"": ""}, tags=[])
ZIG = Part("ziglang", {"ziglang/": "ziglang/"})


def place_library():
    """Puts ONNX Runtime's library and the licence texts of all that is bundled into the package."""
    shutil.rmtree(LIBRARY, ignore_errors=True)
    LIBRARY.mkdir()
    for source in (THIRD_PARTY / "onnxruntime").glob("*"):
        if not source.is_symlink():
            shutil.copyfile(source, LIBRARY / source.name)
    (LIBRARY / "RustNotices.txt").write_text(rust_notices("seeward-python"))


def rust_notices(*members):
    """Names, licences and licence texts of the crates that members are built from. Equal texts are there once."""
    crates, texts = [], {}
    for package in crates_of(members):
        if package["source"] is None:
            continue
        crates.append(f"{package['name']} {package['version']}: {package['license']}")
        folder = Path(package["manifest_path"]).parent
        for file in sorted(folder.iterdir()):
            if file.is_file() and file.name.upper().startswith(LICENCE_NAMES):
                text = file.read_text(errors="replace").strip()
                texts.setdefault(text, []).append(f"{package['name']} ({file.name})")
    parts = ["\n".join(crates)] + [f"{', '.join(names)}:\n\n{text}" for text, names in texts.items()]
    return ("\n\n" + "-" * 80 + "\n\n").join(parts) + "\n"


def crates_of(members):
    """What is built into members of the workspace, by cargo's resolution."""
    cargo = ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", "x86_64-unknown-linux-gnu"]
    metadata = json.loads(subprocess.run(cargo, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    open_ids, seen = [id for id in nodes if packages[id]["name"] in members], set()
    while open_ids:
        id = open_ids.pop()
        if id not in seen:
            seen.add(id)
            for dependency in nodes[id]["deps"]:
                if any(kind["kind"] is None for kind in dependency["dep_kinds"]):
                    open_ids.append(dependency["pkg"])
    return sorted((packages[id] for id in seen), key=lambda package: package["name"])


def maturin(out, *arguments, environment=None):
    """Builds the wheel into the folder `out`, which then holds no other."""
    setup.provide_extras([MATURIN])
    shutil.rmtree(out, ignore_errors=True)
    program = THIRD_PARTY / "maturin" / "maturin"
    program.chmod(0o755)
    command = [str(program), "build", "--locked", "--out", str(out), "--interpreter", sys.executable, *arguments]
    if subprocess.run(command, cwd=PACKAGE, env={**os.environ, **(environment or {})}).returncode != 0:
        raise SetupError("maturin could not build the wheel; see its message above")
    (wheel,) = out.glob("*.whl")
    return wheel


def build_release():
    setup.provide_extras([ZIG])
    zig = THIRD_PARTY / "ziglang"
    (zig / "ziglang" / "zig").chmod(0o755)
    place_library()
    # A folder for itself: the linker is another than that of plain builds.
    environment = {"PYTHONPATH": str(zig), "CARGO_TARGET_DIR": str(TARGET / "wheel")}
    flags = ["--release", "--strip", "--zig", "--compatibility", "manylinux_2_28"]
    wheel = maturin(ROOT / "dist", *flags, environment=environment)
    setup.say(f"{wheel.relative_to(ROOT)}: {wheel.stat().st_size / 1e6:.1f} MB")


def workspace_build():
    """An environment in which maturin's cargo builds the libraries and tests of the whole workspace: with the features of
    `cargo test --workspace`, whose artifacts are then used instead of being built a second time."""
    folder = TARGET / "workspace_cargo"
    folder.mkdir(parents=True, exist_ok=True)
    build = "build --workspace --lib --tests --locked --message-format json-render-diagnostics"
    cargo = shutil.which("cargo")
    program = folder / "cargo"
    program.write_text(f'#!/bin/sh\ncase "$1" in rustc) exec "{cargo}" {build};; esac\nexec "{cargo}" "$@"\n')
    program.chmod(0o755)
    return {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


def build_for_tests():
    """The folder that holds the package, its programs and nothing else."""
    place_library()
    wheel = maturin(TARGET / "wheels", "--profile", "dev", "--auditwheel", "skip", environment=workspace_build())
    shutil.rmtree(UNPACKED, ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--disable-pip-version-check"]
    subprocess.run([*pip, "--target", str(UNPACKED), str(wheel)], check=True)
    return UNPACKED


def test(arguments):
    return pytest([sys.executable], arguments)


def pytest(python, arguments):
    """Builds the package and runs its tests. Returns pytest's exit status."""
    setup.provide_extras([PYTEST])
    folders = [build_for_tests(), THIRD_PARTY / "pytest", THIRD_PARTY / "python"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders)), "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("ORT_DYLIB_PATH", None)
    return subprocess.run([*python, "-m", "pytest", *arguments], cwd=PACKAGE, env=environment).returncode


def test_on_ray(arguments):
    """Tests the package on a cluster of two local nodes, with an interpreter that has Ray."""
    place, pins = TARGET / "ray", ROOT / "scripts" / "wheels" / "ray.txt"
    stamp = place / setup.STAMP
    if not stamp.is_file() or stamp.read_text() != pins.read_text():
        shutil.rmtree(place, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
        pip = [str(place / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--require-hashes", "--only-binary=:all:", "--requirement", str(pins)], check=True)
        stamp.write_text(pins.read_text())
    return pytest([str(place / "bin" / "python")], ["tests_ray", "-s", *arguments])


def main():
    parser = argparse.ArgumentParser(description="Builds the Python package, and tests it unless --release is given.")
    parser.add_argument("--release", action="store_true", help="build dist/seeward-….whl for all systems")
    parser.add_argument("--ray", action="store_true", help="test what needs Ray, which is fetched")
    arguments, rest = parser.parse_known_args()
    if arguments.ray:
        return test_on_ray(rest)
    if not arguments.release:
        return test(rest)
    build_release()
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (SetupError, OSError, zipfile.BadZipFile) as error:
        setup.say(f"error: {error}")
        sys.exit(2)

#!/usr/bin/env python3
"""Lets PyTorch's CUDA wheel be imported on a machine without NVIDIA's libraries, for work on the CPU only.

    cuda_stand_in.py FOLDER     the folder with the unpacked torch/ and nvidia/

libtorch_python.so is linked against libtorch_cuda.so and three of NVIDIA's libraries, 2.8 GB with their dependencies, and
calls none of them on a CPU. A small library of the same names takes their place: it defines every symbol that would be
missing otherwise. Each of its functions ends the process when called, so that it never computes anything.
The distributed package is removed, since its start calls NCCL.
"""

import re
import subprocess
import sys
from pathlib import Path

ABSENT = ["libcudnn.so.9", "libcufile.so.0", "libnccl.so.2"]
PRESENT = ["libc10.so", "libc10_cuda.so", "libshm.so", "libtorch_cpu.so"]
SYSTEM = ["libstdc++.so.6", "libc.so.6", "libm.so.6", "libgcc_s.so.1"]
DISTRIBUTED = ["_c10d_init", "_rpc_init", "_faulty_agent_init", "_dist_autograd_init"]
# The interpreter's own symbols, and those that a linker resolves to nothing.
OTHERS = re.compile(r"_?Py|_ITM_|__gmon_start__|__tls_get_addr|_ZTH")
# Called when the library is loaded: a place for a function that is asked about Python's lock.
GIL_CHECKER = "_ZN4c10d15get_gil_checkerEv"


def symbols(library, kind):
    listed = subprocess.run(["nm", "--dynamic", kind, library], capture_output=True, text=True, check=True).stdout
    return {line.split()[-1].split("@")[0] for line in listed.splitlines()}


def system_library(name):
    return subprocess.run(["c++", "-print-file-name=" + name], capture_output=True, text=True, check=True).stdout.strip()


def missing(folder):
    """The symbols that libtorch_python.so needs and no library present defines."""
    libraries = [folder / "torch/lib" / name for name in PRESENT]
    libraries += [folder / "nvidia/cu13/lib/libcudart.so.13", *map(system_library, SYSTEM)]
    defined = set().union(*(symbols(library, "--defined-only") for library in libraries))
    needed = symbols(folder / "torch/lib/libtorch_python.so", "--undefined-only")
    return sorted(name for name in needed - defined if not OTHERS.match(name))


def definition(symbol):
    """A symbol in assembly: a class has a name and nothing else, a function aborts."""
    if symbol.startswith("_ZTI"):
        name = symbol[4:]
        return f'.data\n.balign 8\n{symbol}: .quad _ZTVN10__cxxabiv117__class_type_infoE + 16, 1f\n1: .asciz "{name}"'
    if symbol.startswith("_ZTV"):
        return f".data\n.balign 8\n{symbol}: .zero 512"
    if symbol == GIL_CHECKER:
        return f".bss\n.balign 8\nchecker: .zero 8\n.text\n{symbol}: lea checker(%rip), %rax\nret"
    # Through the C library, whose symbols have versions: the loader then expects versions of this library's symbols too.
    return f".text\n{symbol}: call abort@PLT"


def build(folder):
    kind = lambda symbol: "object" if symbol.startswith(("_ZTI", "_ZTV")) else "function"
    head = lambda symbol: f".globl {symbol}\n.type {symbol}, @{kind(symbol)}"
    parts = [f"{head(symbol)}\n{definition(symbol)}" for symbol in missing(folder)]
    text = "\n".join([*parts, '.section .note.GNU-stack, "", @progbits', ""])
    library = folder / "torch/lib/libtorch_cuda.so"
    link = ["c++", "-shared", "-x", "assembler", "-o", library, "-"]
    subprocess.run(link, input=text, text=True, check=True)
    for name in ABSENT:
        (folder / "torch/lib" / name).symlink_to(library.name)


def remove_distributed(folder):
    path = folder / "torch/__init__.py"
    text = path.read_text()
    start = "    from torch._C import *  # noqa: F403\n\n\nclass SymInt"
    if text.count(start) != 1:
        sys.exit(f"cuda_stand_in.py: error: {path} is not the version that this script supports")
    removal = f"\n\nfor _name in {DISTRIBUTED}:\n    delattr(sys.modules['torch._C'], _name)"
    path.write_text(text.replace(start, start.replace("\n\n\nclass", removal + "\n\n\nclass")))


def main():
    folder = Path(sys.argv[1])
    build(folder)
    remove_distributed(folder)


if __name__ == "__main__":
    main()

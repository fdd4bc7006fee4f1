"""The file of ONNX Runtime's library."""

import os
from pathlib import Path

VARIABLE = "ORT_DYLIB_PATH"
_GPU_PACKAGE = "onnxruntime-gpu"


def find() -> Path | None:
    """The library to load; None if the environment names it.

    A process loads one library, the first. So where `onnxruntime-gpu` is installed its library is taken for the CPU too,
    else the one inside this package.
    """
    if os.environ.get(VARIABLE):
        return None
    return _of_gpu_package() or _bundled()


def name() -> None:
    """Names the library to a program of this process."""
    library = find()
    if library is not None:
        os.environ[VARIABLE] = os.fspath(library)


def _bundled() -> Path | None:
    found = sorted(Path(__file__).parent.joinpath("lib").glob("libonnxruntime.so*"))
    return found[0] if found else None


def _of_gpu_package() -> Path | None:
    # By the package's list of files: onnxruntime without a GPU unpacks into the same folder.
    from importlib.metadata import PackageNotFoundError, files

    try:
        listed = files(_GPU_PACKAGE) or []
    except PackageNotFoundError:
        return None
    found = [file for file in listed if file.name.startswith("libonnxruntime.so")]
    return Path(os.fspath(found[0].locate())) if found else None

"""Scoring on a Ray cluster: files by shards, and Ray Data by a class for `map_batches`. It needs the package ray.

Ray starts shards, and starts them again where a process or node died; a shard resumes from what it has written. The result
is byte for byte that of one run of `seeward-score`. All nodes need the same paths for bundle, input and output, such as a
shared file system, and this package.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from typing import Any

from .errors import SeewardError
from .model import RewardModel

# Of prctl: the signal that a process gets when the thread that started it ends.
_SET_PARENT_DEATH_SIGNAL = 1
_SHARDS_PER_WORKER = 4


class ShardDied(SeewardError):
    """A shard's process was killed. It is started again."""


def score(
    model: str | os.PathLike[str],
    input: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    shards: int | None = None,
    num_cpus: int = 1,
    num_gpus: int = 0,
    max_retries: int = 20,
    **flags: Any,
) -> bool:
    """Scores the rows of a file to another on the cluster that `ray.init` has joined, or on this machine. Returns whether
    every row has scores; the others are in the output's `.errors`.

    shards: parts of the file, by default four for each process that the cluster can run at once. num_cpus and num_gpus: of
    each process, which uses as many threads as CPUs. max_retries: of a shard whose process, worker or node died. Other
    arguments are flags of `seeward-score`.

    Raises SeewardError with the program's message if a shard fails: that is not tried again. The same call resumes.
    """
    import ray

    from .evaluation import as_flags

    if not ray.is_initialized():
        ray.init()
    shards = shards or _SHARDS_PER_WORKER * max(1, int(ray.cluster_resources().get("CPU", 1)) // num_cpus)
    flags = {"model": model, "input": input, "output": output, "threads": num_cpus, **flags}
    if num_gpus:
        flags.setdefault("device", "cuda")
    arguments = as_flags({name: _absolute(name, value) for name, value in flags.items()})
    options = {"num_cpus": num_cpus, "num_gpus": num_gpus, "max_retries": max_retries, "retry_exceptions": [ShardDied]}
    task = ray.remote(**options, scheduling_strategy="SPREAD")(run)
    _wait(ray, [task.remote([*arguments, "--shard", f"{shard}/{shards}"]) for shard in range(shards)])
    return run(["--merge", "--output", os.path.abspath(output)]) == 0


def run(arguments: list[str]) -> int:
    """Runs `seeward-score` in a process that ends with this one. Returns its exit status, 0 or 1.

    Raises ShardDied if a signal ended it, SeewardError with its message for another status.
    """
    command = [sys.executable, "-m", "seeward", "score", *arguments]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, preexec_fn=_die_with_parent)
    if done.returncode in (0, 1):
        return done.returncode
    message = f"{' '.join(arguments[-2:])}: {done.stderr.strip() or f'exit status {done.returncode}'}"
    is_killed = done.returncode < 0 or done.returncode > 128 or "another run is writing it" in message
    raise ShardDied(message) if is_killed else SeewardError(message)


def _wait(ray: Any, tasks: list[Any]) -> None:
    """Waits for all tasks; the first error ends the others."""
    try:
        waiting = tasks
        while waiting:
            done, waiting = ray.wait(waiting)
            ray.get(done)
    except ray.exceptions.RayTaskError as error:
        for task in tasks:
            ray.cancel(task, force=True)
        raise SeewardError(str(error.cause)) from error


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)


def _absolute(name: str, value: Any) -> Any:
    """Workers have other current folders."""
    return os.path.abspath(value) if name in ("model", "input", "output", "image_root", "cache_dir") else value


class Scorer:
    """Scores batches of Ray Data, as an actor of `map_batches`:

        dataset.map_batches(Scorer, fn_constructor_args=["bundles/mine"], batch_size=64, num_cpus=2, concurrency=4)

    A batch has the columns prompt (or messages), responses, and images, image or img_path. Added are `rewards`, a list for
    each row and None where it cannot be scored, and `error`, its message; the columns of images are dropped. Each actor has
    as many threads as Ray gives it CPUs.
    """

    IMAGES = ("images", "image", "img_path")
    READ = ("prompt", "messages", "responses", *IMAGES)

    def __init__(self, bundle: str | os.PathLike[str], **options: Any) -> None:
        if options.get("threads") is None:
            options["threads"] = _assigned_cpus()
        self.model = RewardModel(bundle, **options)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        names = [name for name in self.READ if name in batch]
        columns = [[_plain(value) for value in batch[name]] for name in names]
        rows = [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]
        scored = self.model.score_batch(rows)  # type: ignore[arg-type]
        kept = {name: values for name, values in batch.items() if name not in self.IMAGES}
        return {
            **kept,
            "rewards": [None if isinstance(scores, Exception) else scores.rewards for scores in scored],
            "error": [str(scores) if isinstance(scores, Exception) else None for scores in scored],
        }


def _assigned_cpus() -> int | None:
    """The CPUs that Ray has given to this actor; None outside of Ray."""
    import ray

    if not ray.is_initialized():
        return None
    assigned = ray.get_runtime_context().get_assigned_resources().get("CPU")
    return max(1, int(assigned)) if assigned else None


def _plain(value: Any) -> Any:
    """Texts and lists in place of numpy's arrays of objects and strings."""
    if hasattr(value, "dtype") and value.dtype.kind in "OUS":
        return value.tolist()
    return value

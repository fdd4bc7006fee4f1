"""A loaded bundle."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence, Sized
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, Self

from . import _fork, _library, _native
from .errors import RequestError
from .requests import Check, Images, Prompt, Request, Scores


class RewardModel(_native.RewardModel):
    """A reward model on ONNX Runtime.

    It may be used by any number of threads; runs take turns, since one uses all of the engine's threads. The
    interpreter's lock is free meanwhile. Pickled, it is the bundle's path and its options, and loads again. In a forked
    child its methods raise RuntimeError: load it there.

    >>> import seeward
    >>> model = seeward.RewardModel("bundles/mine")
    >>> rewards = model.score("what color is the shape?", ["Blue.", "It is red."], "photos/1.png")
    >>> [round(reward, 4) for reward in rewards]
    [0.4471, 0.9274]
    """

    _options: dict[str, Any]

    def __new__(
        cls,
        bundle: str | os.PathLike[str],
        *,
        device: str = "cpu",
        threads: int | None = None,
        batch_tokens: int | None = None,
        max_image_pixels: int | None = None,
        input: Literal["full", "text_only", "image_only"] = "full",
        scale: Literal["raw", "uncorrected", "whitened"] = "raw",
        image_cache_bytes: int = 0,
        cache_dir: str | os.PathLike[str] | None = None,
        gpu_memory_limit: int | None = None,
        library: str | os.PathLike[str] | None = None,
    ) -> Self:
        """Loads the bundle in a folder.

        device: cpu, cuda[:N] or tensorrt[:N]. threads: of the engine, and as many of image decoding; one for each core of
        this process if None. batch_tokens: most tokens of one run (6144). max_image_pixels: most pixels of an image
        (178,956,970). input: what the model sees of requests. scale: of rewards; whitened needs the trainer's mean and
        deviation in the bundle. image_cache_bytes: memory for the embeddings of images that come again. cache_dir: for
        TensorRT's engines. gpu_memory_limit: bytes for each of the two graphs. library: the file of ONNX Runtime; the
        first one of a process counts.

        Raises BundleError, DeviceError, LibraryError, EngineError, and ValueError for an option out of range.
        """
        options = {
            "device": device,
            "threads": threads,
            "batch_tokens": batch_tokens,
            "max_image_pixels": max_image_pixels,
            "input": input,
            "scale": scale,
            "image_cache_bytes": image_cache_bytes,
            "cache_dir": cache_dir,
            "gpu_memory_limit": gpu_memory_limit,
            "library": library,
        }
        model = super().__new__(cls, os.fspath(bundle), **{**options, "library": library or _library.find()})
        model._options = options
        _fork.guard()
        return model

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
        **options: Any,
    ) -> Self:
        """Loads a folder, or a bundle of the Hugging Face hub, which is downloaded first (needs `seeward[hub]`).

        The other options are those of the class. Every file is compared with the hash that the bundle gives it.
        """
        from .hub import download

        found = download(name_or_path, revision=revision, token=token, local_files_only=local_files_only)
        return cls(found, **options)

    def score(self, prompt: Prompt, responses: Sequence[str], images: Images = None) -> list[float]:
        """The rewards of responses to one prompt, in order.

        Raises RequestError if it cannot be scored, TypeError and ValueError for arguments of other types.
        """
        return self.score_one(prompt, responses, images)[0]

    def score_batch(
        self,
        requests: Iterable[Request],
        *,
        on_error: Literal["return", "raise"] = "return",
        progress: bool = False,
    ) -> list[Scores | RequestError]:
        """The Scores of each request, in order, or its RequestError.

        Requests are read as they are needed, 32 at a time, which are scored together, as by `seeward-score`: equal rows
        give equal bits. Ctrl-C ends the call after the requests that are in the engine. With `on_error="raise"` the first
        error is raised. `progress` shows a bar, by tqdm.

        >>> import seeward
        >>> model = seeward.RewardModel("bundles/mine")
        >>> requests = [
        ...     {"prompt": "what color is the shape?", "responses": ["Blue."], "images": "photos/1.png"},
        ...     {"prompt": "what color is the shape?", "responses": ["Blue."], "images": "photos/none.png"},
        ... ]
        >>> for scores in model.score_batch(requests):
        ...     print(scores)
        Scores([0.4471])
        image photos/none.png: No such file or directory (os error 2)
        """
        if on_error not in ("return", "raise"):
            raise ValueError(f"on_error: expected return or raise, got {on_error}")
        with _bar(requests) if progress else nullcontext() as advance:
            scored = self.score_requests(requests, on_error == "raise", advance)
        return [item if isinstance(item, Exception) else Scores(*item) for item in scored]

    def score_pairs(
        self, prompts: Sequence[Prompt], responses: Sequence[str], images: Sequence[Images] | None = None
    ) -> list[float | RequestError]:
        """The reward of each response to the prompt and images of the same place, or its RequestError.

        Responses of equal prompts and images, compared by content, share the computation of both, wherever they are.
        """
        given = [None] * len(prompts) if images is None else images
        return self.score_triples(zip(prompts, responses, given, strict=True))

    def check(self) -> Check:
        """Scores the bundle's probes.

        Raises BundleError if it has none.
        """
        as_trained, reason, errors, rewards = self.check_probes()
        errors = json.loads(errors)
        return Check(as_trained, reason, errors["largest"], rewards, errors)

    @property
    def manifest(self) -> dict[str, Any]:
        """The content of the bundle's reward_model.json."""
        manifest: dict[str, Any] = json.loads(self.manifest_json())
        return manifest

    @property
    def precision(self) -> str:
        """fp32, fp16, bf16, int8 or int4."""
        return str(self.manifest["precision"])

    @property
    def max_length(self) -> int:
        """Most tokens of a conversation, with its images."""
        return int(self.manifest["prompt"]["max_length"])

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return _load, (type(self), os.path.abspath(self.bundle), self._options)

    def __repr__(self) -> str:
        return f"RewardModel({os.fspath(self.bundle)!r}, device={self.device!r}, precision={self.precision!r})"

    def _repr_html_(self) -> str:
        from html import escape

        manifest = self.manifest
        facts = {"bundle": self.bundle, "device": self.device, "input": self.input_mode}
        facts |= {key: manifest[key] for key in ("family", "target", "precision", "checkpoint")}
        facts |= {"maximum length": f"{self.max_length} tokens", "probes": len(manifest["probes"])}
        rows = (f"<tr><th>{name}</th><td>{escape(str(fact))}</td></tr>" for name, fact in facts.items())
        return f"<table>{''.join(rows)}</table>"


def _load(cls: type[RewardModel], bundle: str, options: dict[str, Any]) -> RewardModel:
    return cls(bundle, **options)


def _bar(requests: Iterable[Request]) -> AbstractContextManager[Any]:
    """A bar on which one advances by calling."""
    from contextlib import contextmanager

    from tqdm.auto import tqdm  # type: ignore[import-untyped,unused-ignore]

    @contextmanager
    def bar() -> Any:
        with tqdm(total=len(requests) if isinstance(requests, Sized) else None, unit="request") as shown:
            yield shown.update

    return bar()

"""The types of requests and of what they get."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, NotRequired, Protocol, TypedDict, Union

if TYPE_CHECKING:
    from collections.abc import Buffer  # type: ignore[attr-defined,unused-ignore]


class PilImage(Protocol):
    """An image of Pillow. Its own decoder of JPEGs gives the pixels."""

    def convert(self, mode: str) -> Any: ...
    def tobytes(self) -> bytes: ...


ImageLike = Union[str, "PathLike[str]", "Buffer", PilImage, Mapping[str, Any]]
"""An image: a path, `file://` address or data URL; the bytes of a file; pixels of type uint8 and shape [height, width, 3]
(red, green, blue) of numpy or any other buffer; an image of Pillow; or the `{"bytes", "path"}` of an image column of
`datasets`."""

Images = Union[ImageLike, Sequence[ImageLike], None]
"""None, one image, or several in order."""


class Message(TypedDict):
    """A message. `content` is a text, with `<image>` in the places of images, or a list of parts
    `{"type": "text", "text"}` and `{"type": "image"}`."""

    role: Literal["system", "user", "assistant"]
    content: str | Sequence[Mapping[str, Any]]


Prompt = Union[str, Sequence[Message]]
"""A question, or a conversation whose last message is the user's. A system message replaces the template's."""


class Request(TypedDict):
    """A prompt, its images and the responses to score: at least one."""

    prompt: Prompt
    responses: Sequence[str]
    images: NotRequired[Images]


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of one request.

    `numpy.asarray(scores)` are its rewards, of type float32 and shape [responses].
    """

    rewards: list[float]
    """One for each response, in order."""
    truncated: list[bool]
    """For each response, whether the model's maximum length cut it."""
    tokens: int
    """Tokens of its conversations, each counted in full."""
    tiles: int
    """Tiles of its images."""

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        import numpy

        return numpy.array(self.rewards, dtype or numpy.float32)

    def __repr__(self) -> str:
        rewards = ", ".join(f"{reward:.4f}" for reward in self.rewards)
        cut = f", truncated={self.truncated}" if any(self.truncated) else ""
        return f"Scores([{rewards}]{cut})"

    def _repr_html_(self) -> str:
        rows = zip(self.rewards, self.truncated, strict=True)
        cells = (f"<tr><td>{reward:.4f}</td><td>{'cut' if cut else ''}</td></tr>" for reward, cut in rows)
        return f"<table><tr><th>reward</th><th></th></tr>{''.join(cells)}</table>"


@dataclass(frozen=True, slots=True)
class Check:
    """What a bundle's probes show: rewards that training recorded, compared with those of this machine."""

    as_trained: bool | None
    """Whether the rewards are those of training; None if the probes cannot decide it."""
    reason: str
    """What was allowed, or why nothing was decided."""
    largest: float
    """The largest error, in multiples of max(1, |reward|)."""
    rewards: list[tuple[list[float], list[float]]]
    """For each probe its rewards as trained, and as computed here."""
    errors: dict[str, float]
    """All statistics of the errors."""

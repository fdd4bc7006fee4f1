"""Requests of many threads and tasks, scored together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, Self

from . import _native
from .errors import QueueFull
from .model import RewardModel
from .requests import Images, Prompt, Scores


class Batcher(_native.Batcher):
    """A queue over a model: requests that wait are scored together.

    A batch is the oldest request with all waiting ones of equal prompt and images, which share both; then the next
    oldest, up to `max_batch_size` requests or an estimated `max_batch_time` in seconds. `queue_bytes` is the most memory
    of waiting requests. Other requests of a batch change rewards by rounding only.

    >>> import seeward
    >>> model = seeward.RewardModel("bundles/mine")
    >>> with seeward.Batcher(model) as batcher:
    ...     futures = [batcher.submit("what color is it?", [answer], "photos/1.png") for answer in ("Blue.", "Red.")]
    ...     len([future.result().rewards for future in futures])
    2
    """

    def __new__(
        cls,
        model: RewardModel,
        *,
        max_batch_size: int = 32,
        max_batch_time: float = 2.0,
        max_delay: float = 0.005,
        queue_bytes: int = 1 << 30,
    ) -> Self:
        """Starts two threads, which end with `close`, or with the batcher. Raises ValueError for sizes of zero."""
        return super().__new__(cls, model, max_batch_size, max_batch_time, max_delay, queue_bytes)

    def submit(self, prompt: Prompt, responses: Sequence[str], images: Images = None) -> Future[Scores]:
        """The future scores of a request. Cancelling it removes a request that still waits.

        Raises QueueFull, and Closed after `close`. The future raises the request's own error, or EngineError.
        """
        future = _Future()
        future.pending = self.submit_to(future.resolve, prompt, responses, images)
        return future

    async def score(self, prompt: Prompt, responses: Sequence[str], images: Images = None) -> Scores:
        """The scores of a request, which waits as long as the queue is full.

        >>> import asyncio, seeward
        >>> async def main():
        ...     with seeward.Batcher(seeward.RewardModel("bundles/mine")) as batcher:
        ...         answers = [batcher.score("Is water wet?", [answer]) for answer in ("Yes.", "No.")]
        ...         return await asyncio.gather(*answers)
        >>> len(asyncio.run(main()))
        2
        """
        try:
            return await asyncio.wrap_future(self.submit(prompt, responses, images))
        except QueueFull:
            loop = asyncio.get_running_loop()
            return Scores(*await loop.run_in_executor(None, self.score_waiting, prompt, responses, images))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class _Future(Future[Scores]):
    """Scores that another thread resolves."""

    pending: _native.Pending

    def resolve(self, scored: tuple[Any, ...] | None, error: Exception | None) -> None:
        if not self.set_running_or_notify_cancel():
            return
        if scored is None:
            self.set_exception(error)
        else:
            self.set_result(Scores(*scored))

    def cancel(self) -> bool:
        is_cancelled = super().cancel()
        if is_cancelled:
            self.pending.cancel()
        return is_cancelled

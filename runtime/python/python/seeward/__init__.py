"""Rewards of responses to prompts with images, by a multimodal reward model on ONNX Runtime.

A model is a folder that `seeward-export` has written, called a bundle:

>>> import seeward
>>> model = seeward.RewardModel("bundles/mine")
>>> len(model.score("what color is the shape?", ["Blue.", "It is red."], "photos/1.png"))
2

Other modules: `seeward.trl`, `seeward.verl`, `seeward.openrlhf` and `seeward.swift` are reward functions for trainers,
`seeward.hub` shares bundles, `seeward.ray` scores on a cluster, `seeward.errors` is what is raised.
"""

from typing import TYPE_CHECKING, Any

from .errors import SeewardError as SeewardError
from .model import RewardModel as RewardModel
from .requests import Check as Check
from .requests import Request as Request
from .requests import Scores as Scores

if TYPE_CHECKING:
    from .batcher import Batcher as Batcher
    from .evaluation import evaluate as evaluate

__all__ = ["Batcher", "Check", "Request", "RewardModel", "Scores", "SeewardError", "evaluate"]


def __getattr__(name: str) -> Any:
    # Modules of which others alone would double the time of the import.
    if name == "Batcher":
        from .batcher import Batcher

        return Batcher
    if name == "evaluate":
        from .evaluation import evaluate

        return evaluate
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""The reward function for verl.

    custom_reward_function.path=pkg://seeward.verl custom_reward_function.name=compute_score
    +custom_reward_function.reward_kwargs.bundle=bundles/mine    (or url=http://host:8080)

verl scores one sample a call; the calls of one moment share batches. `extra_info` of a sample holds `prompt` or `messages`,
and `images`.
"""

from .reward_functions import compute_score as compute_score

__all__ = ["compute_score"]

"""The reward function for verl.

    custom_reward_function.path=reward.py custom_reward_function.name=compute_score
    +custom_reward_function.reward_kwargs.bundle=bundles/mine    (or url=http://host:8080)

with `reward.py`: from seeward.verl import compute_score

verl scores one sample a call; the calls of one moment share batches. `extra_info` of a sample holds `prompt` or `messages`,
and `images`.
"""

from .reward_functions import compute_score as compute_score

__all__ = ["compute_score"]

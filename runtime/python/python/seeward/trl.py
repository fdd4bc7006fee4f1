"""The reward function for TRL's trainers (GRPO, RLOO).

    trainer = GRPOTrainer(reward_funcs=seeward.trl.RewardFunction("bundles/mine"), ...)
    trainer = GRPOTrainer(reward_funcs=seeward.trl.RewardFunction(url="http://host:8080"), ...)

Completions of equal prompts and images share the computation of both.

>>> from seeward.trl import RewardFunction
>>> reward = RewardFunction("bundles/mine")
>>> rewards = reward(prompts=["what color?"] * 2, completions=["Blue.", "Red."], images=[["photos/1.png"]] * 2)
>>> len(rewards)
2
"""

from .reward_functions import RewardFunction as RewardFunction

__all__ = ["RewardFunction"]

"""The reward function for OpenRLHF.

    --reward.remote_url reward.py    with: from seeward.openrlhf import reward_func

and SEEWARD_BUNDLE or SEEWARD_URL in the environment. The service reads texts in the policy's template; for a bundle each
label holds `prompt` or `messages`, and `images`.
"""

from .reward_functions import reward_func as reward_func

__all__ = ["reward_func"]

"""The reward function for ms-swift.

    --external_plugins plugin.py --reward_funcs seeward

with `plugin.py`:

    from swift.rewards import orms
    from seeward.swift import Swift
    orms["seeward"] = Swift

and SEEWARD_BUNDLE or SEEWARD_URL in the environment.
"""

from .reward_functions import Swift as Swift

__all__ = ["Swift"]

"""Reward models as rewards of reinforcement learning: references, groups, likelihoods, and three adapters.

Knows models only as ``PreferenceModel`` and ``ScalarModel``; loads no torch. The adapters stand in
``gram.rl.trl``, ``gram.rl.openrlhf`` and ``gram.rl.verl``; none of them imports the library it serves.
"""

from __future__ import annotations

from gram.rl.group import GroupReward
from gram.rl.likelihood import LikelihoodReward
from gram.rl.reference import ReferenceReward
from gram.rl.reward import Reward, Rewards
from gram.rl.shaping import Shaping

__all__ = ["GroupReward", "LikelihoodReward", "ReferenceReward", "Reward", "Rewards", "Shaping"]

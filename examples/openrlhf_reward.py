"""A GRAM judge as OpenRLHF's reward function: --reward.remote_url examples/openrlhf_reward.py

GRAM_MODEL names the judge. The label of each row (--data.label_key) is the reference answer that the policy
has to beat.
"""

import os

import gram
from gram.rl import ReferenceReward, Shaping
from gram.rl.openrlhf import OpenRlhfReward

judge = gram.load(os.environ["GRAM_MODEL"])
reward_func = OpenRlhfReward(ReferenceReward(judge, shaping=Shaping(clip=(-5.0, 5.0))))

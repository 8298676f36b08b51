"""``gram demo``: the whole idea of GRAM, told in a small world whose truth is known.

Puts the parts of the package together as a user would; nothing else depends on it.
"""

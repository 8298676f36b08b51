"""``gram demo``: the whole idea of GRAM, told in a small world whose truth is known.

Puts the parts of the package together as a user would. Nothing else in the package depends on it but its
command; experiments and examples do.
"""

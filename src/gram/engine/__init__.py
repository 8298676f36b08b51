"""How token rows are run through a decoder; used by training and scoring alike.

``plain`` reads every row by itself, in a padded batch, and is the reference; ``tree`` reads shared prefixes
once, with the same numbers; ``fan`` lets few tokens look at several rows that were read apart. ``choose``
picks one for a model, ``runner`` cuts rows into batches. Knows token rows and decoders; knows nothing of
prompts, templates, labels or losses.
"""

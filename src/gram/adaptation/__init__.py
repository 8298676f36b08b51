"""Few-shot adaptation: a trained model and a handful of labels of a new task.

``adapt.adapt`` works on a model in memory, ``checkpoint.adapt_checkpoint`` on folders and files; ``decision``
decides from numbers alone whether the adapted model replaces the old one. Knows training, scoring and
metrics; knows no command line.
"""

"""Few-shot adaptation: a trained model and a handful of labels of a new task.

``adapt.adapt`` works on a model in memory, ``run.adapt_checkpoint`` on folders and files, ``decision`` says
from numbers alone whether the adapted model has won. Knows training, scoring and metrics; knows no
command line.
"""

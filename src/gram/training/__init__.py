"""Training: a documented configuration, and ``transformers.Trainer`` with exact normalisation.

Knows data, renderings, objectives and models; knows nothing of scoring or evaluation.
"""

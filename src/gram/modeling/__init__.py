"""Models: building, loading, saving, and which of their weights may train.

Knows Hugging Face folders and ``gram.json``; knows no data, no loss and no trainer.
"""

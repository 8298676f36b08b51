"""What is trained: the formulas as pure functions, and the objectives that put batches through them.

Every objective returns sums and counts, never means, so that batch size, accumulation and process count
cannot change what is optimised. Knows renderings and batches; knows no trainer and no file.
"""

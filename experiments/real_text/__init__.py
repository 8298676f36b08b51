"""The foundation model of real text: its labels, its rivals, its test, and the folder that is shipped.

experiments/real_text.md says what was decided before anything was run.
"""

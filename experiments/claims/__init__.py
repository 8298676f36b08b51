"""The claims of the paper (arXiv 2506.14175), one script each, at a scale that two cores can carry.

``python -m experiments.claims.NAME`` runs one; ``--smoke`` shows in seconds that it runs. What is on file
is not run again. ``python -m experiments.claims.summary`` makes the table and the pictures.
"""

"""The rows of public files, made from the repositories they are from; see experiments/public_files.py."""

"""The version of this code, which a source tree has too; knows nothing else."""

__version__ = "0.2.0"

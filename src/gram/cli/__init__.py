"""The command line: the only place that chooses concrete parts. One module per command.

A command module holds a documented dataclass ``Config``, which is its flags and its YAML file at once, and
``run(config)``, which returns the JSON object printed at the end.
"""

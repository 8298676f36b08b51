"""``gram COMMAND``: finds the command, merges ``--config`` with the flags, prints the result as JSON.

Flags win over the configuration file. Stdout gets one JSON line; progress and errors go to stderr. Exit
codes: 0 done, 1 an error that is the user's to mend (or a result that counts ``errors``), 2 a wrong use of
options, 130 interrupted.
"""

from __future__ import annotations

import sys
from importlib import import_module

from gram.claims import reading
from gram.config_file import did_you_mean
from gram.described import overview
from gram.errors import GramError
from gram.extras import explained
from gram.files import finite
from gram.flags import config_path, parse, print_completion
from gram.progress import print_json
from gram.version import __version__

COMMANDS = {
    "demo": "the whole idea in a small world: learn without labels, align with few, rank",
    "train": "train a model: stage 1 on unlabeled answers, stage 2 on preferences",
    "plan": "say whether a training fits on some GPUs, and how long it takes",
    "adapt": "adapt a trained model to a new task with a few labels, unless the old one is better",
    "doctor": "look for what is wrong with a model, or with rows for it, before a long run",
    "score": "score pairs, candidates or single answers from a file",
    "bulk": "score millions of rows in many processes, on Ray",
    "eval": "measure a model on benchmarks and preference data, beside the floors",
    "report": "put runs of eval side by side",
    "rank": "rank the candidate answers of each prompt",
    "serve": "serve a model over HTTP: for trainers, rerank clients and people",
    "mine": "write chosen and rejected answers from ranked candidates",
    "merge": "make an adapter and its base one ordinary model folder",
    "push": "put a model on the Hugging Face Hub, with its card",
    "export": "write a model in the form that other tools load",
    "convert": "write preference data in the form that a trainer reads",
    "bench": "time scoring or training beside what others do",
    "fetch": "bring a language model to this machine, to start from",
}

RENAMED = {"eval": {"limit": "max_per_source"}, "adapt": {"limit": "max_per_source"}}
"""Per command, options of the last release and their names now; read with a warning until the next."""


def main(argv: list[str] | None = None) -> int:
    """Run the command line ``argv`` (without the program's name); returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help") or arguments == ["help"]:
        print(overview(COMMANDS))
        return 0
    if arguments[0] == "help":
        arguments = [*arguments[1:], "--help"]
    if arguments[0] in ("-V", "--version"):
        print(f"gram {__version__}")
        return 0
    name, rest = arguments[0], arguments[1:]
    if name not in (*COMMANDS, "--print-completion"):
        near = did_you_mean(name, COMMANDS) or f"; there are: {', '.join(COMMANDS)}"
        print(f"gram: no command '{name}'{near}", file=sys.stderr)
        return 2
    try:
        if name == "--print-completion":
            print_completion({one: import_module(f"gram.cli.{one}").Config for one in COMMANDS}, "gram", rest)
            return 0
        command = import_module(f"gram.cli.{name}")
        with explained(), reading(config_path(rest)):
            result = command.run(parse(command.Config, rest, f"gram {name}", RENAMED.get(name, {})))
        if result is not None:
            print_json(finite(result))
            return 1 if result.get("errors") else 0
    except GramError as error:
        print(f"gram {name}: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except OSError as error:
        if error.errno is None:
            raise
        place = "stdout" if isinstance(error, BrokenPipeError) else error.filename
        print(f"gram {name}: {f'{place}: ' if place else ''}{error.strerror}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"gram {name}: interrupted", file=sys.stderr)
        return 130
    except SystemExit as leaving:  # of the option parser: 0 after --help, 2 after a wrong option
        return leaving.code if isinstance(leaving.code, int) else 1
    return 0

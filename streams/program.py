"""What `duewatch` starts: the command line, whose own imports Ctrl-C may come into."""

import sys
from typing import NoReturn


def main() -> NoReturn:
    try:
        from streams.cli import main as command_line
    except KeyboardInterrupt:
        print("duewatch: interrupted", file=sys.stderr)
        sys.exit(130)
    command_line()

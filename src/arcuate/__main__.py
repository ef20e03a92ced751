"""The process of the command line: ``arcuate``, and ``python -m arcuate``."""

from arcuate import cli
from arcuate.commands.stopping import STOPPED, end_process


def main() -> None:
    """Run the command line; stopped by a signal, end as a process that was."""
    try:
        cli.main()
    except KeyboardInterrupt:
        end_process()
    except SystemExit as end:
        if end.code == STOPPED:
            end_process()
        raise


if __name__ == "__main__":
    main()

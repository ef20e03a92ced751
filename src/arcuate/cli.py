"""The command line."""


def main() -> None:
    """Entry point of ``arcuate``."""
    raise SystemExit(2)

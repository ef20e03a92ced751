"""``python -m arcuate`` runs the command line."""

from arcuate.cli import main

main()

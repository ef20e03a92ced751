"""The commands of ``arcuate``, one module each; ``arcuate.cli`` imports a module when its command is called."""

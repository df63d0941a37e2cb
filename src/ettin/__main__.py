"""`python -m ettin` is the command `ettin`."""

from ettin.cli import main

main()

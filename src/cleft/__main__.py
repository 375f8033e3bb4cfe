"""``python -m cleft``: the command line."""

from cleft.cli.main import main

main()

"""``python -m cleft``: the command line."""

from cleft.apps.cli import main

main()

"""`python -m ftjm`, the command line without its script on the PATH."""

from ftjm.cli import main

main()

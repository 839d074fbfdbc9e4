"""`ftjm` and `python -m ftjm`, the command line."""

import signal

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # Ctrl-C during the imports below would print a traceback. `main` lets it raise again.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from ftjm.cli import main

if __name__ == "__main__":
    main()

"""What holds for all tests."""

import signal

# A job that a script starts in the background ignores SIGINT, and so would all that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

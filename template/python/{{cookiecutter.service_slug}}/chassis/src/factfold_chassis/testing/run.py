"""`python -m factfold_chassis.testing.run`: the service, with a Redis of its own beside it.

The log and snapshots of the views stay in `.redis/` of the current folder. With
`FACTFOLD_REDIS_URL` set, that Redis is used and none is started.
"""

import os
import runpy
import sys
from contextlib import ExitStack
from pathlib import Path

from factfold_chassis.testing.redis_server import ServerError, start

DATA = Path(".redis")


def main() -> None:
    with ExitStack() as stack:
        if not os.environ.get("FACTFOLD_REDIS_URL"):
            try:
                server = stack.enter_context(start(DATA))
            except ServerError as error:
                sys.exit(str(error))
            os.environ["FACTFOLD_REDIS_URL"] = server.url
            os.environ.setdefault("FACTFOLD_SNAPSHOT_DIR", str(DATA / "snapshots"))
        runpy.run_module("service", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()

"""`python -m service`: serves until SIGTERM or Ctrl-C."""

from factfold_chassis import run

from service.app import build

if __name__ == "__main__":
    run(build())

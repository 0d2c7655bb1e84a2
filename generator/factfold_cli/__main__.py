"""`python -m factfold_cli` is `factfold`."""

from factfold_cli.main import main

main()

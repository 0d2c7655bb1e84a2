"""The contract's messages and client stubs under one short name."""

from typing import TYPE_CHECKING

{{wiring.imports}}
SERVICE = "{{cookiecutter.service_slug}}"
{{wiring.descriptors}}

if not TYPE_CHECKING:  # to mypy, a name that is not there stays an error of its line
    from factfold_chassis.contract import not_in_stubs

    __getattr__ = not_in_stubs

"""Puts the service together: what lies in the packages below is wired, nothing is registered."""

from importlib import import_module
from pkgutil import iter_modules

from factfold_chassis import Service
from google.protobuf.descriptor import FileDescriptor

from service import contract, folds, handlers, reactions, subscriptions
from service.interceptors import INTERCEPTORS


def build() -> Service:
    return Service(
        name=contract.SERVICE,
        contract=contract.DESCRIPTORS,
        subscriptions=_foreign_contracts(),
        parts=[handlers, folds, reactions],
        interceptors=INTERCEPTORS,
    )


def _foreign_contracts() -> list[FileDescriptor]:
    names = [module.name for module in iter_modules(subscriptions.__path__)]
    return [import_module(f"{subscriptions.__name__}.{name}").DESCRIPTOR for name in sorted(names)]

"""The hooks of a template, imported: so both ways to a service share each rule and each byte."""

from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from types import ModuleType

from factfold_cli.templates import template


@cache
def hook(language: str, name: str) -> ModuleType:
    """The hook `name`, such as "pre_gen_project", of the template of `language`, as a module."""
    path = template(language) / "hooks" / f"{name}.py"
    spec = spec_from_file_location(f"factfold_{language}_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

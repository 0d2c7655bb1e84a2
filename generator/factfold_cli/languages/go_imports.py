"""What a new file of Go imports."""

from factfold_cli.languages import go_names
from factfold_cli.render import variables
from factfold_cli.repository import Repository


class Imports:
    """The stubs that a new file imports, and their names there."""

    def __init__(self, repository: Repository) -> None:
        self._known = repository.known
        answers = repository.manifest["answers"]
        path = variables("go", answers)["__package_path"]
        self._names = {f"{go_names.STUBS}/{path}": "contract"}
        self._used: set[str] = set()

    def package(self, path: str) -> str:
        """The name of the package at an import path, which is imported from now on."""
        self._used.add(path)
        if path not in self._names:
            name = go_names.package_name(path)
            while name in self._names.values():
                name += "_"
            self._names[path] = name
        return self._names[path]

    def type_of(self, message: str) -> str:
        path = go_names.import_path(self._known, self._known.messages[message][0])
        return f"{self.package(path)}.{go_names.type_name(self._known, message)}"

    def lines(self, *others: str) -> dict[str, str]:
        """The lines of import blocks: of "ours" and of "google", where `others` are ours too."""
        specs = {path: f'\t{self._names[path]} "{path}"\n' for path in self._used}
        # goimports leaves out a name that the path ends with.
        google = {path: f'\t"{path}"\n' for path in specs if not path.startswith("service/")}
        ours = {path: spec for path, spec in specs.items() if path not in google}
        ours |= {path: f'\t"{path}"\n' for path in others}
        return {
            "google": "".join(spec for _, spec in sorted(google.items())),
            "ours": "".join(spec for _, spec in sorted(ours.items())),
        }

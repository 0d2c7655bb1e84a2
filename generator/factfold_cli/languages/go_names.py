"""What protoc-gen-go calls things, and where tools/stubs puts them."""

import re
from pathlib import PurePosixPath
from typing import Any

from factfold_cli.declared import Declared

STUBS = "service/gen"
# What each message has beside its fields, in protoc-gen-go.
_METHODS = {
    *("Reset", "String", "ProtoMessage", "Marshal", "Unmarshal"),
    *("ExtensionRangeArray", "ExtensionMap", "Descriptor"),
}


def camel(name: str) -> str:
    """A name of a contract as Go code has it: GoCamelCase of google.golang.org/protobuf."""
    found = ""
    at = 0
    while at < len(name):
        char, after = name[at], name[at + 1 : at + 2]
        if char == "." and _lower(after):
            pass
        elif char == ".":
            found += "_"
        elif char == "_" and (at == 0 or name[at - 1] == "."):
            found += "X"
        elif char == "_" and _lower(after):
            pass
        elif char.isdigit():
            found += char
        else:
            found += char.upper()
            while _lower(name[at + 1 : at + 2]):
                at += 1
                found += name[at]
        at += 1
    return found


def _lower(char: str) -> bool:
    return "a" <= char <= "z"


def file_name(name: str) -> str:
    """The file for a name, without its ending: a `_` in it may mean a system to `go build`."""
    return name.replace("_", "").lower()


def import_path(known: Declared, path: str) -> str:
    """The package of the stubs of the file at `path`; "" if it says none."""
    folder = PurePosixPath(path).parent.as_posix()
    if path == "factfold/v1/options.proto":
        return "factfold/chassis/factfold/v1"
    if path.startswith("google/protobuf/"):
        return str(known.files[path].options.go_package).partition(";")[0]
    return f"{STUBS}/{folder}"


def package_name(path: str) -> str:
    """The name of a package at an import path of stubs: ordersv1 for …/orders/v1."""
    words = path.split("/")
    last = words[-1] if not path.startswith(f"{STUBS}/") else "".join(words[1:][-2:])
    return last.replace("_", "")


def type_name(known: Declared, message: str) -> str:
    """The type of a message in the package of its file."""
    return camel(known.python_name(message))


def types(file: Any) -> set[str]:
    """What the stubs of a FileDescriptorProto have that a message could be called, too."""
    found = {camel(each.name) for each in (*file.message_type, *file.enum_type)}
    for service in map(camel, (each.name for each in file.service)):
        found |= {f"{service}Client", f"{service}Server", f"New{service}Client"}
        found |= {f"{start}{service}Server" for start in ("Unimplemented", "Unsafe", "Register")}
    return found


def descriptor(path: str) -> str:
    """The variable that has the descriptor of the file at `path`."""
    return f"File_{re.sub(r'[^0-9A-Za-z]', '_', path)}"


def fields(message: Any) -> dict[str, str]:
    """The field of the struct for each field of a DescriptorProto."""
    used = set(_METHODS)
    oneofs: set[int] = set()
    found: dict[str, str] = {}
    for field in message.field:
        name = camel(field.name)
        while name in used or f"Get{name}" in used:
            name += "_"
        used |= {name, f"Get{name}"}
        found[field.name] = name
        if field.HasField("oneof_index") and field.oneof_index not in oneofs:
            oneofs.add(field.oneof_index)
            oneof = camel(message.oneof_decl[field.oneof_index].name)
            while oneof in used:
                oneof += "_"
            used.add(oneof)
    return found

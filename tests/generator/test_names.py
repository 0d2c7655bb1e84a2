"""Which names are taken, what becomes of them, and each refusal word for word."""

import json
import keyword

import pytest

from factfold_cli.names import problem
from factfold_cli.render import variables
from factfold_cli.templates import languages, template

GOOD = {
    "a": ("a", "A", "AItems", "a_items", "a"),
    "a" * 60: ("a" * 60, "A" + "a" * 39, "A" + "a" * 39 + "s", "a" * 40 + "s", "a" * 60),
    "Größe": ("grosse", "Grosse", "Grosses", "grosses", "grosse"),
    "stock keeper": ("stock-keeper", "StockKeeper", "StockKeepers", "stock_keepers",
                     "stock_keeper"),
    "class": ("class", "ClassItem", "ClassItems", "class_items", "class_service"),
    "test": ("test", "TestItem", "TestItems", "test_items", "test_service"),
    "chassis": ("chassis", "ChassisItem", "ChassisItems", "chassis_items", "chassis_service"),
    "orders": ("orders", "Order", "Orders", "orders", "orders"),
    "companies": ("companies", "Company", "Companies", "companies", "companies"),
    "addresses": ("addresses", "Address", "Addresses", "addresses", "addresses"),
    "status": ("status", "Status", "Statuses", "statuses", "status"),
    "s": ("s", "S", "Ses", "ses", "s"),
    "stock_keeper-2": ("stock-keeper-2", "StockKeeper2", "StockKeeper2s", "stock_keeper2s",
                       "stock_keeper_2"),
    "北京": ("bei-jing", "BeiJing", "BeiJings", "bei_jings", "bei_jing"),
}  # fmt: skip

USE_NAME = "use letters, digits, spaces, - and _, a letter first, 60 characters at most"
OTHER_CHARACTERS = "has other characters than letters, digits, spaces, - and _"
BAD = {
    "": f"the service name '' is empty; {USE_NAME}",
    "1a": f"the service name '1a' does not start with a letter; {USE_NAME}",
    " a": f"the service name ' a' does not start with a letter; {USE_NAME}",
    "../x": f"the service name '../x' does not start with a letter; {USE_NAME}",
    "a/b": f"the service name 'a/b' {OTHER_CHARACTERS}; {USE_NAME}",
    "{{7*7}}": "the service name '{{7*7}}' does not start with a letter; " + USE_NAME,
    "a{{7*7}}": "the service name 'a{{7*7}}' " + OTHER_CHARACTERS + "; " + USE_NAME,
    "$(id)": f"the service name '$(id)' does not start with a letter; {USE_NAME}",
    "a$(id)": f"the service name 'a$(id)' {OTHER_CHARACTERS}; {USE_NAME}",
    "a\nb": f"the service name 'a\\nb' {OTHER_CHARACTERS}; {USE_NAME}",
    "a\x1b[2J": f"the service name 'a\\x1b[2J' {OTHER_CHARACTERS}; {USE_NAME}",
    "a\u202eb": f"the service name 'a\\u202eb' {OTHER_CHARACTERS}; {USE_NAME}",
    "a\udcff": f"the service name 'a\\udcff' {OTHER_CHARACTERS}; {USE_NAME}",
    "a" * 61: f"the service name {'a' * 60 + '…'!r} has 61 characters, 1 too many; {USE_NAME}",
    "a" * 300: f"the service name {'a' * 60 + '…'!r} has 300 characters, 240 too many; {USE_NAME}",
}


@pytest.mark.parametrize("name", GOOD)
def test_a_name_gives_all_other_names(name: str) -> None:
    assert problem("python", {"service_name": name}, "service_name") is None
    known = variables("python", {"service_name": name})
    slug, aggregate, plural, plural_snake, ident = GOOD[name]
    assert {
        "service_name": name,
        "service_slug": slug,
        "aggregate": aggregate,
        "__plural": plural,
        "__plural_snake": plural_snake,
        "__ident": ident,
        "__package": f"acme.{ident}.v1",
        "__package_path": f"acme/{ident}/v1",
    }.items() <= known.items()


@pytest.mark.parametrize("name", BAD)
def test_a_bad_name_is_refused_with_the_reason(name: str) -> None:
    assert problem("python", {"service_name": name}, "service_name") == BAD[name]


def test_a_name_that_leaves_nothing_of_a_to_z_is_refused() -> None:
    assert problem("python", {"service_name": "ー"}, "service_name") == (
        "the folder name '_' is no slug; use a-z, 0-9 and single -, a letter first,"
        " 60 characters at most"
    )


@pytest.mark.parametrize("organisation", ["acme", "com.example", "a1.b_2.c"])
def test_an_organisation_is_lower_case_words(organisation: str) -> None:
    assert problem("python", {"organisation": organisation}, "organisation") is None


@pytest.mark.parametrize("organisation", ["", "Acme", "a..b", ".a", "a-b", "1a", "a\n", "a" * 61])
def test_other_organisations_are_refused(organisation: str) -> None:
    shown = organisation if len(organisation) <= 60 else "a" * 60 + "…"
    assert problem("python", {"organisation": organisation}, "organisation") == (
        f"the organisation {shown!r} is no root of a proto package; use lower-case words of a-z,"
        " 0-9 and _ with dots between, such as com.example, 60 characters at most"
    )


@pytest.mark.parametrize(
    ("aggregate", "why"),
    [
        ("", "is no name of a message"),
        ("order", "is no name of a message"),
        ("Order_Item", "is no name of a message"),
        ("Größe", "is no name of a message"),
        ("A" * 41, "is no name of a message"),
        ("Order\n", "is no name of a message"),
        ("Class", "is a reserved word"),
        ("Test", "is a reserved word"),
    ],
)
def test_other_aggregates_are_refused(aggregate: str, why: str) -> None:
    answers = {"service_name": "x", "aggregate": aggregate}
    assert problem("python", answers, "aggregate") == (
        f"the aggregate {aggregate!r} {why}; use letters and digits, a capital first,"
        " such as OrderItem, 40 characters at most"
    )


@pytest.mark.parametrize(
    ("aggregate", "snake", "plural", "plural_snake"),
    [
        ("HTTPServer", "http_server", "HTTPServers", "http_servers"),
        ("DNS", "dns", "DNSes", "dnses"),
        ("Key", "key", "Keys", "keys"),
        ("Company", "company", "Companies", "companies"),
        ("Batch", "batch", "Batches", "batches"),
        ("I", "i", "IItems", "i_items"),
        ("Y", "y", "Ys", "ys"),
        ("A1B2", "a1_b2", "A1B2s", "a1_b2s"),
        ("A" * 40, "a" * 40, "A" * 40 + "s", "a" * 40 + "s"),
    ],
)
def test_an_aggregate_gives_its_plural(
    aggregate: str, snake: str, plural: str, plural_snake: str
) -> None:
    answers = {"service_name": "x", "aggregate": aggregate}
    assert problem("python", answers, "aggregate") is None
    known = variables("python", answers)
    assert known["__aggregate_snake"] == snake
    assert known["__plural"] == plural
    assert known["__plural_snake"] == plural_snake


@pytest.mark.parametrize(
    ("organisation", "package"),
    [
        ("com.example", "com.example.orders.v1"),
        ("class.acme", "class_service.acme.orders.v1"),
        ("acme.class.internal", "acme.class_service.internal_service.orders.v1"),
        ("google", "google_service.orders.v1"),
        # A top-level module of Python's own hides a package of this name; further down none does.
        ("json", "json_service.orders.v1"),
        ("acme.json", "acme.json.orders.v1"),
    ],
)
def test_reserved_words_of_an_organisation_are_lengthened(organisation: str, package: str) -> None:
    answers = {"service_name": "orders", "organisation": organisation}
    assert variables("python", answers)["__package"] == package


def test_a_description_is_one_printable_line() -> None:
    def why(description: str) -> str | None:
        return problem("python", {"description": description}, "description")

    use = "use one line of text, 200 characters at most"
    assert why('Keeps "orders" & {{ more }}, 100 % <safe>') is None
    assert why("a\nb") == (f"the description 'a\\nb' has line breaks or control characters; {use}")
    assert why("a" * 201) == f"the description {'a' * 60 + '…'!r} has 201 characters; {use}"


@pytest.mark.parametrize("language", languages())
def test_the_reserved_words_are_sorted_and_complete(language: str) -> None:
    listed = json.loads((template(language) / "cookiecutter.json").read_text("utf-8"))
    for words in (listed["_reserved"], listed["_standard_library"]):
        assert words == sorted(set(words))
    reserved = set(listed["_reserved"])
    assert {word.lower() for word in keyword.kwlist} <= reserved
    one_a_language = {
        "go": "chan",
        "java": "synchronized",
        "javascript": "debugger",
        "typescript": "keyof",
        "rust": "crate",
        "c++": "constexpr",
        "protobuf": "oneof",
        "kotlin": "fun",
        "c#": "stackalloc",
    }
    assert set(one_a_language.values()) <= reserved
    modules = "chassis factfold factfold_chassis gen google grpc hatch_build hiredis opentelemetry"
    assert set(f"{modules} pytest redis service test tests uvloop".split()) <= reserved

"""What is put into a contract, and where: every other byte of it stays as it is."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from factfold_cli.contract import compiled
from factfold_cli.contract_edit import Edit
from factfold_cli.fields import Field, types
from factfold_cli.proto_text import ProtoText
from factfold_cli.watched import watched

PATH = "acme/things/v1/contract.proto"
HEAD = 'syntax = "proto3";\npackage acme.things.v1;\n'
OPTIONS = 'import "factfold/v1/options.proto";\n'
ID = Field("id", "string")

Change = Callable[[Edit], None]


def query(edit: Edit) -> None:
    edit.rpc(0, "GetB", "query")
    edit.calls("GetB", [ID], [])


def command(edit: Edit) -> None:
    edit.rpc(0, "DoB", "command")
    edit.calls("DoB", [], [])


def watch(edit: Edit) -> None:
    edit.rpc(0, "WatchB", "watch")
    edit.calls("WatchB", [], [ID])


def event(edit: Edit) -> None:
    edit.event("ThingLost", [ID], "id")
    if found := watched(edit.text.file, edit.events, "ThingLost"):
        edit.member("ThingLost", found)


def row(edit: Edit) -> None:
    edit.row("Row", [ID], "A row.")


def importing(edit: Edit) -> None:
    edit.row("Row", [types([], "").field("any:Any")], "A row.")


def edited(folder: Path, before: bytes, change: Change) -> bytes:
    """The file with the change, which compiles and is the same but for it."""
    edit = _edit(folder, before)
    change(edit)
    after = edit.content()
    assert edit.is_all_of(_edit(folder, after).text.file)
    return after


def _edit(folder: Path, content: bytes) -> Edit:
    path = folder / PATH
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    (file,) = (each for each in compiled(folder, [PATH], source_info=True) if each.name == PATH)
    events = {
        f"acme.things.v1.{each.name}"
        for each in file.message_type
        if each.name.startswith("Thing") and each.options.ByteSize()
    }
    return Edit(ProtoText(content, file), events)


# Lines with a + are put in.
SERVICES: dict[str, tuple[Change, str]] = {
    "behind the last RPC": (
        command,
        """
 service S {
   rpc A(X) returns (X);
+  rpc DoB(DoBRequest) returns (DoBResponse);
 }
 message X {}
+
+message DoBRequest {}
+
+message DoBResponse {}
""",
    ),
    "a query says that it changes nothing": (
        query,
        """
 service S {
   rpc A(X) returns (X) {}
+  rpc GetB(GetBRequest) returns (GetBResponse) {
+    option idempotency_level = NO_SIDE_EFFECTS;
+  }
 }
 message X {}
+
+message GetBRequest {
+  string id = 1;
+}
+
+message GetBResponse {}
""",
    ),
    "a watch streams": (
        watch,
        """
 service S {
   rpc A(X) returns (X) {};
+  rpc WatchB(WatchBRequest) returns (stream WatchBResponse) {
+    option idempotency_level = NO_SIDE_EFFECTS;
+  }
 }
 message X {}
+
+message WatchBRequest {}
+
+message WatchBResponse {
+  string id = 1;
+}
""",
    ),
    "comments of what is before stay with it": (
        command,
        """
 service S {
   // About A.
   rpc A(X) returns (X); // More of it.
   // And more: protoc counts this for A, too.
+  rpc DoB(DoBRequest) returns (DoBResponse);

   // At the end: of nothing.

 } // of S
 message X { /* } */ } /* of
   X */
+
+message DoBRequest {}
+
+message DoBResponse {}
""",
    ),
    "a comment before the end belongs to the RPC": (
        command,
        """
 service S {
   rpc A(X) returns (X);
   /* About
      A. */
+  rpc DoB(DoBRequest) returns (DoBResponse);
 }
 message X {}
+
+message DoBRequest {}
+
+message DoBResponse {}
""",
    ),
    "blank lines between RPCs are kept up": (
        command,
        """
 service S {
   rpc A(X) returns (X);

   // About C.
   rpc C(X) returns (X);
+
+  rpc DoB(DoBRequest) returns (DoBResponse);
 }

 message X {
     string a = 1;
 }
+
+message DoBRequest {}
+
+message DoBResponse {}

 enum E {
     NONE = 0;
 }
""",
    ),
    "messages behind those of RPCs, in front of others": (
        command,
        """
 service S {
   rpc A(X) returns (X);
+  rpc DoB(DoBRequest) returns (DoBResponse);
 }
 message X {}
+
+message DoBRequest {}
+
+message DoBResponse {}
+
 // About Y.
 message Y { message X {} }
""",
    ),
    "tabs": (
        query,
        """
 service S {
 \trpc A(X)\treturns (X);\t// A comment.
+\trpc GetB(GetBRequest) returns (GetBResponse) {
+\t\toption idempotency_level = NO_SIDE_EFFECTS;
+\t}
 }
 message X {\toption deprecated = true;
 \tstring\ta = 1;\t}\t
+
+message GetBRequest {
+\tstring id = 1;
+}
+
+message GetBResponse {}
""",
    ),
    "four spaces, and text that is not ASCII": (
        query,
        """
 /* größer */ service S { // €
     rpc A(X) returns (X); /* größer als */ /* €
     */
+    rpc GetB(GetBRequest) returns (GetBResponse) {
+        option idempotency_level = NO_SIDE_EFFECTS;
+    }
 }
 /* ü */ message X { /* ü */ }
+
+message GetBRequest {
+    string id = 1;
+}
+
+message GetBResponse {}
""",
    ),
    "no RPC yet": (
        command,
        """
 service S {
   // Nothing yet.
+  rpc DoB(DoBRequest) returns (DoBResponse);
 }
+
+message DoBRequest {}
+
+message DoBResponse {}
""",
    ),
    "the first of two services": (
        command,
        """
 service S {
   rpc A(X) returns (X);
+  rpc DoB(DoBRequest) returns (DoBResponse);
 }
 service T {
   rpc C(X) returns (X);
 }
 message X {}
+
+message DoBRequest {}
+
+message DoBResponse {}
""",
    ),
    "what looks like code in comments and strings": (
        command,
        """
 option java_package = "service S { rpc A(X) returns (X); }";
 /* service S {
   rpc A(X) returns (X);
 } */
 service S {
   // rpc A(X) returns (X);
   rpc A(X) returns (X) { option deprecated = true; /* } */ };;
   // }
+  rpc DoB(DoBRequest) returns (DoBResponse);
 }
 message X { string a = 1 [json_name = "}"]; } // }
+
+message DoBRequest {}
+
+message DoBResponse {}
""",
    ),
}

MESSAGES: dict[str, tuple[Change, str]] = {
    "an event behind the last one": (
        event,
        """
 import "factfold/v1/options.proto";

 // Events.
 message ThingMade {
   option (factfold.v1.event) = {};
   string id = 1 [(factfold.v1.key) = true];
 }
 // Of ThingMade.
+
+message ThingLost {
+  option (factfold.v1.event) = {};
+  string id = 1 [(factfold.v1.key) = true];
+}

 // A row.
 message Thing {
   string id = 1;
 }
""",
    ),
    "the first event, at the end": (
        event,
        """
 import "factfold/v1/options.proto";
 message Thing {}
 // The end.
+
+message ThingLost {
+  option (factfold.v1.event) = {};
+  string id = 1 [(factfold.v1.key) = true];
+}
""",
    ),
    "an event in what the watch gives out": (
        event,
        """
 import "factfold/v1/options.proto";
 service S {
   rpc W(X) returns (stream X);
 }
 message ThingMade {
   option (factfold.v1.event) = {};
   string id = 1 [(factfold.v1.key) = true];
   message Part { option deprecated = true; }
 }
+
+message ThingLost {
+  option (factfold.v1.event) = {};
+  string id = 1 [(factfold.v1.key) = true];
+}
+
 message X {
   reserved 9, 5 to 7;
   oneof change {
     ThingMade made = 2 [deprecated = true]; // About it.
+    ThingLost lost = 10;
   }
   string position = 1;
 }
""",
    ),
    "a row behind the last one": (
        row,
        """
 service S {
   rpc A(X) returns (X);
 }
 message Thing {}
+
+// A row.
+message Row {
+  string id = 1;
+}
+
 message X {}
""",
    ),
    "an import behind the last one": (
        importing,
        """
 import "factfold/v1/options.proto"; // About it.
 import public "google/protobuf/empty.proto";
+import "google/protobuf/any.proto";

 message Thing {}
+
+// A row.
+message Row {
+  google.protobuf.Any any = 1;
+}
""",
    ),
    "the first import": (
        importing,
        """
+
+import "google/protobuf/any.proto";
+
 message Thing {}
+
+// A row.
+message Row {
+  google.protobuf.Any any = 1;
+}
""",
    ),
}  # fmt: skip

CASES = SERVICES | MESSAGES


@pytest.mark.parametrize("newline", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("end", [True, False], ids=["ended", "no-end"])
@pytest.mark.parametrize(
    "case", [*SERVICES.values(), *MESSAGES.values()], ids=[*SERVICES, *MESSAGES]
)
def test_where_it_is_put(tmp_path: Path, case: tuple[Change, str], end: bool, newline: str) -> None:
    change, shown = case
    lines = shown.split("\n")[1:-1]
    before = HEAD + "".join(f"{line[1:]}\n" for line in lines if line[:1] != "+")
    after = HEAD + "".join(f"{line[1:]}\n" for line in lines)
    if not end:
        before, after = before.removesuffix("\n"), after.removesuffix("\n")
    made = edited(tmp_path, before.replace("\n", newline).encode(), change)
    assert made.decode() == after.replace("\n", newline)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "service S {}",
            "service S {\n  rpc DoB(DoBRequest) returns (DoBResponse);\n}",
        ),
        (
            "service S { /* none */ }",
            "service S { /* none */ \n  rpc DoB(DoBRequest) returns (DoBResponse);\n}",
        ),
        (
            "message Y {} service S { rpc A(Y) returns (Y); /* A */ } // S",
            "message Y {}\n\nmessage DoBRequest {}\n\nmessage DoBResponse {}\n service S {"
            " rpc A(Y) returns (Y);\n  rpc DoB(DoBRequest) returns (DoBResponse);\n /* A */ } // S",
        ),
    ],
)
def test_several_things_on_a_line(tmp_path: Path, before: str, after: str) -> None:
    made = edited(tmp_path, (HEAD + before).encode(), command).decode().removeprefix(HEAD)
    messages = (
        "" if "message Y" in before else "\n\nmessage DoBRequest {}\n\nmessage DoBResponse {}"
    )
    assert made == after + messages


def test_a_byte_order_mark_counts(tmp_path: Path) -> None:
    text = 'syntax = "proto3"; package acme.things.v1; service S { }'
    made = edited(tmp_path, b"\xef\xbb\xbf" + text.encode(), command)
    assert made.startswith(b"\xef\xbb\xbf" + text.removesuffix("}").encode() + b"\n  rpc DoB")


def test_in_proto2_each_field_has_a_label(tmp_path: Path) -> None:
    def change(edit: Edit) -> None:
        edit.row("Row", [ID, Field("ids", "string", "repeated")], "A row.")

    made = edited(tmp_path, b"package acme.things.v1;\n", change)
    assert made.decode().splitlines()[4:6] == [
        "  optional string id = 1;",
        "  repeated string ids = 2;",
    ]


WATCHES = {
    "none": "service S { rpc A(X) returns (X); } message X { oneof o { ThingMade made = 1; } }",
    "not events alone": "service S { rpc A(X) returns (stream X); }"
    " message X { oneof o { ThingMade made = 1; string other = 2; } }",
    "several": "service S { rpc A(X) returns (stream X); }"
    " message X { oneof o { ThingMade made = 1; } oneof p { ThingMade also = 2; } }",
    "taken names": "service S { rpc A(X) returns (stream X); }"
    " message X { oneof thing_lost { ThingMade made = 1; } string lost = 2; }",
    "no number left": "service S { rpc A(X) returns (stream X); }"
    " message X { reserved 9 to max; oneof o { ThingMade made = 1; } }",
}
MADE = (
    "message ThingMade { option (factfold.v1.event) = {};"
    " string id = 1 [(factfold.v1.key) = true]; }"
)


@pytest.mark.parametrize("text", WATCHES.values(), ids=WATCHES)
def test_a_watch_that_is_not_clear_is_left_alone(tmp_path: Path, text: str) -> None:
    edit = _edit(tmp_path, f"{HEAD}{OPTIONS}{MADE}{text}".encode())
    assert edit.events == {"acme.things.v1.ThingMade"}
    assert watched(edit.text.file, edit.events, "ThingLost") is None


def test_a_whole_name_where_the_others_have_theirs(tmp_path: Path) -> None:
    text = (
        "service S { rpc A(X) returns (stream X); rpc B(X) returns (stream X); }"
        " message X { optional ThingMade last = 1; oneof o { ThingMade first = 2; } }"
    )
    edit = _edit(tmp_path, f"{HEAD}{OPTIONS}{MADE}{text}".encode())
    found = watched(edit.text.file, edit.events, "ThingLost")
    assert found is not None
    assert (found.name, found.number, found.rpcs) == ("thing_lost", 3, ("A", "B"))


def test_types_are_found_across_files(tmp_path: Path) -> None:
    thing = "message Thing { enum Kind { NONE = 0; } message Part {} }"
    text = f"{HEAD}{thing} enum Size {{ S = 0; }}"
    other = 'syntax = "proto3"; package acme.money.v1; message Money {}'
    (tmp_path / "money.proto").write_text(other)
    _edit(tmp_path, text.encode())
    found = types(compiled(tmp_path, [PATH, "money.proto"]), "acme.things.v1")
    own, timestamp = frozenset([PATH]), frozenset(["google/protobuf/timestamp.proto"])
    assert [
        found.field(f"x:{type_}")
        for type_ in (
            "int32",
            "repeated Thing.Kind",
            "optional Size",
            "map<string,Thing.Part>",
            "acme.money.v1.Money",
            "Timestamp",
            " repeated  google.protobuf.Timestamp ",
        )
    ] == [
        Field("x", "int32"),
        Field("x", "Thing.Kind", "repeated", own),
        Field("x", "Size", "optional", own),
        Field("x", "map<string, Thing.Part>", imports=own),
        Field("x", "acme.money.v1.Money", imports=frozenset(["money.proto"])),
        Field("x", "google.protobuf.Timestamp", imports=timestamp),
        Field("x", "google.protobuf.Timestamp", "repeated", timestamp),
    ]


# White space and comments that may stand between any two tokens.
GAPS = st.lists(
    st.sampled_from(
        [" ", "\t", "\n", "\r\n", "\n\n", "// } ü\n", "//\r\n", "/* { */", "/* \n\t\n */", "  "]
    ),
    max_size=3,
).map("".join)
_TEXT = (
    "syntax = 'proto3' ; package acme.things.v1 ; import 'factfold/v1/options.proto' ;"
    " service S { rpc A ( X ) returns ( stream X ) { option deprecated = true ; } ; }"
    " message ThingMade { option (factfold.v1.event) = { } ; string id = 1"
    " [ (factfold.v1.key) = true ] ; } ; message X { oneof c { ThingMade made = 1 ; } }"
)
TOKENS = _TEXT.split(" ")


@given(
    gaps=st.lists(GAPS, min_size=len(TOKENS), max_size=len(TOKENS)), last=st.sampled_from([0, 1])
)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_whatever_is_between_tokens(tmp_path: Path, gaps: list[str], last: int) -> None:
    """It compiles, and has what was put in and nothing else."""
    text = " ".join(gap + token for gap, token in zip(gaps, TOKENS, strict=True)) + "\n" * last
    before = text.encode()
    for change in (command, query, event, row):
        edit = _edit(tmp_path, before)
        change(edit)
        after = edit.content()
        assert edit.is_all_of(_edit(tmp_path, after).text.file)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("message X {}", "message X { string more = 1; }"),
        ("message X {}", "message X {} message Y {}"),
        ("rpc A(X)", "rpc C(X)"),
        ("  rpc DoB(DoBRequest) returns (DoBResponse);", ""),
        (HEAD, HEAD + 'import "google/protobuf/any.proto";'),
    ],
)
def test_anything_else_is_noticed(tmp_path: Path, old: str, new: str) -> None:
    text = f"{HEAD}service S {{\n  rpc A(X) returns (X);\n}}\nmessage X {{}}\n"
    edit = _edit(tmp_path, text.encode())
    command(edit)
    after = edit.content().decode()
    assert old in after
    assert not edit.is_all_of(_edit(tmp_path, after.replace(old, new).encode()).text.file)

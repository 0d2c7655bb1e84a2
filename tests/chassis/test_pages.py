"""Pages of a table's rows."""

import pytest
from google.protobuf.wrappers_pb2 import StringValue

from factfold_chassis.views.tables import PAGE_BYTES, Rows


def pages(rows: Rows[StringValue], size: int) -> list[list[int]]:
    """The lengths of all rows, page by page."""
    found, token = [], ""
    while True:
        page = rows.page(size, token)
        found.append([len(row.value) for row in page.rows])
        if not (token := page.next_token):
            return found


def test_a_page_of_large_rows_comes_short() -> None:
    """gRPC clients refuse messages beyond 4 MiB: nobody could list any more."""
    sizes = [PAGE_BYTES // 3, PAGE_BYTES - 100, 1, 2 * PAGE_BYTES, PAGE_BYTES, 1, 1]
    rows = Rows(StringValue)
    for at, size in enumerate(sizes):
        rows.put(f"{at}", StringValue(value="x" * size))
    found = pages(rows, 50)
    assert found == [sizes[:2], sizes[2:4], sizes[4:5], sizes[5:]]


@pytest.mark.parametrize(
    "token",
    ["!", "YQ=", "YQ==", "YR", "Y", "/w", "_w", "=", "====", "YQ\n", "YQ\0", "é", "Y" * 70_001],
)
def test_a_token_that_no_page_came_with_is_refused(token: str) -> None:
    rows = Rows(StringValue, dict.fromkeys(("a", "b", "ÿ>"), b""))
    assert rows.page(1).next_token == "YQ"
    with pytest.raises(ValueError, match="no page token of this service"):
        rows.page(1, token)

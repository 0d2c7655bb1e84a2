import hashlib

from service import contract
from service.views import probe

from factfold_chassis import Query, query


@query
def dump(request: contract.DumpRequest, call: Query) -> contract.DumpResponse:
    response = contract.DumpResponse(position=call.position(probe.INPUTS))
    for table in probe.TABLES:
        digest = hashlib.sha256()
        rows = call.rows(table)
        dumped = response.tables.add(name=table.name, rows=len(rows))
        for key in sorted(rows, key=str.encode):
            row = rows.get(key)
            assert row is not None
            value = row.SerializeToString(deterministic=True)
            digest.update(key.encode() + b"\0" + value + b"\0")
            if not request.hashes_only:
                dumped.row.add(key=key, value=value)
        dumped.sha256 = digest.digest()
    return response

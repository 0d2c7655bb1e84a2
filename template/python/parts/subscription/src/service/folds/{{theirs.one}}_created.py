from factfold_chassis import Fact, fold

import service.subscriptions.{{theirs.ident}} as theirs
from service.views import {{theirs.many}}


@fold(
    theirs.{{theirs.aggregate}}Created,
    into={{theirs.many}}.TABLE,
)
def {{theirs.one}}_created(
    row: theirs.{{theirs.aggregate}}Created | None,
    event: theirs.{{theirs.aggregate}}Created,
    fact: Fact,
) -> theirs.{{theirs.aggregate}}Created | None:
    return event

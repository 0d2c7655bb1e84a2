"""Ids that no two facts share."""

import os
import time
import uuid

from factfold_chassis import ids
from factfold_chassis.ids import new_fact_id


def test_ids_are_uuids_that_begin_with_the_time_and_never_come_again():
    before = time.time_ns() // 1_000_000
    made = [new_fact_id() for _ in range(1000)]
    after = time.time_ns() // 1_000_000
    assert len(set(made)) == 1000
    for id_ in made:
        read = uuid.UUID(bytes=id_)
        assert (read.version, read.variant) == (7, uuid.RFC_4122)
        assert before <= int.from_bytes(id_[:6]) <= after


def test_a_child_process_draws_its_own_random_bytes():
    new_fact_id()
    assert ids._random
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.write(write, new_fact_id())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 16)[6:] != new_fact_id()[6:]
    os.close(read)
    os.close(write)

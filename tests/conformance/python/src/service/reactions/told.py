"""What an input tells its reactions to do before they answer."""

import asyncio
import os
import time
from pathlib import Path

from service import contract

from factfold_chassis import Reacting


async def obey(event: contract.Input, call: Reacting, reaction: str) -> None:
    do = event.do
    if do.only not in ("", reaction):
        return
    folder = Path(os.environ.get("PROBE_FOLDER", "."))
    await asyncio.sleep(do.sleep_ms / 1000)
    while do.wait_while and (folder / do.wait_while).exists():
        await asyncio.sleep(0.01)
    fails = do.fail_always or time.time() * 1000 < do.fail_until_ms
    if do.fail_times:
        runs = folder / f"{reaction}-{call.fact.id}"
        with runs.open("ab") as counted:
            counted.write(b".")
        fails |= runs.stat().st_size <= do.fail_times
    if fails or (do.fail_while and (folder / do.fail_while).exists()):
        raise RuntimeError(f"told to fail for {event.key}")


def output(event: contract.Input, call: Reacting, reaction: str, key: str) -> contract.Output:
    return contract.Output(
        key=key,
        reaction=reaction,
        position=str(call.fact.position),
        id=call.fact.meta.id,
        of=event.key,
        number=event.number,
        count=1,
    )

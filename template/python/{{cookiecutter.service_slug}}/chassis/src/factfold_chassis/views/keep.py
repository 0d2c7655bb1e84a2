"""What of a view outlives the process: its snapshots on disk, and its cursors in the log."""

import asyncio
import gc
import logging
import os
import re
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from factfold_chassis.log.read import START, Anchor
from factfold_chassis.log.redis import Redis
from factfold_chassis.views.cursors import Cursors
from factfold_chassis.views.declare import View
from factfold_chassis.views.snapshot import Positions, Snapshot, Snapshots
from factfold_chassis.views.tables import Tables

logger = logging.getLogger(__name__)


class Home:
    """Where the views of one service are kept.

    Args:
        folder: of snapshots; empty: none are kept.
        alarm: told in one line what an operator must know.
        first: whether this process writes them; the others beside it only begin with them.

    Attributes:
        instance: whose cursors they are; the same one after a restart if it is `lasting`.
    """

    def __init__(
        self,
        service: str = "",
        folder: str = "",
        alarm: Callable[[str], None] = logger.error,
        *,
        first: bool = True,
    ):
        self.service = service
        self.folder = Path(folder) if folder else None
        self.alarm = alarm
        self.first = first
        self.instance = secrets.token_hex(8)
        self.lasting = False
        if self.folder is not None and first:
            try:
                self._remember(self.folder / "instance")
            except (OSError, ValueError) as error:
                alarm(f"no snapshots can be kept: {error}; mend FACTFOLD_SNAPSHOT_DIR")

    def _remember(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        mine = file.with_name(f"instance.{self.instance}")
        mine.write_text(self.instance)
        try:
            with suppress(FileExistsError):
                os.link(mine, file)  # whole, and only the first one
        finally:
            mine.unlink()
        found = file.read_text()
        if not re.fullmatch("[0-9a-f]{16}", found):
            raise ValueError(f"{file} is damaged, remove it")
        self.instance, self.lasting = found, True


NOWHERE = Home()


class Keeper:
    """Keeps one view.

    Args:
        fingerprint: makes the hash of what the view is made of.

    Attributes:
        cursors: that say in the log where this instance is.
    """

    def __init__(self, home: Home, redis: Redis, view: View, fingerprint: Callable[[], bytes]):
        self._lock = asyncio.Lock()
        self._setting_aside: asyncio.Task[None] | None = None
        self._saved: Positions = {}  # of the newest snapshot
        self._again: Positions = {}  # where the view reads on at the worst
        self._home = home
        self._view = view
        self.cursors = Cursors(
            redis, home.service, view.name, home.instance, lasting=home.lasting, again=self._from
        )  # fmt: skip
        self._snapshots: Snapshots | None = None
        if home.folder is not None:
            try:
                self._snapshots = Snapshots(home.folder, home.service, view, fingerprint())
            except Exception as error:
                home.alarm(f"view {view.name} keeps no snapshots: {error}")

    # On disk.

    async def restore(self) -> tuple[Snapshot, Tables] | None:
        """The newest snapshot that can be used."""
        if self._snapshots is None:
            return None
        try:
            restored = await asyncio.to_thread(self._restore, self._snapshots)
        except Exception:
            logger.exception("view %s cannot use its snapshots: rebuilding", self._view.name)
            return None
        if restored is not None:
            self._saved = restored[0].positions
        return restored

    def _restore(self, snapshots: Snapshots) -> tuple[Snapshot, Tables] | None:
        collecting = gc.isenabled()
        gc.disable()  # it would look at all rows again and again, and find nothing
        try:
            if self._home.first:
                with suppress(OSError):
                    self._again = snapshots.tidy()
            snapshot = snapshots.load()
            if snapshot is None:
                return None
            tables = Tables(self._view, snapshot.rows)
            failures = []
            for table in self._view.folded:
                for error in tables[table].derive():
                    snapshots.go_on()
                    if error is not None:
                        failures.append(error)
        finally:
            if collecting:
                gc.enable()
        if failures:
            logger.error(
                "view %s: %d rows cannot be derived from, the first one:",
                self._view.name, len(failures), exc_info=failures[0],
            )  # fmt: skip
        logger.info(
            "view %s begins with a snapshot of %d rows",
            self._view.name, sum(map(len, snapshot.rows.values())),
        )  # fmt: skip
        if snapshot.failures:
            logger.warning(
                "view %s: %d facts before its snapshot could not be folded: to try them again, "
                "remove its files in %s and restart",
                self._view.name, snapshot.failures, self._home.folder,
            )  # fmt: skip
        return snapshot, tables

    async def save(
        self, cut: Callable[[Positions], Snapshot | None], *, twice: bool = False
    ) -> None:
        """Write what `cut(positions of the last one)` returns. A failure is an alarm, no more.

        Args:
            twice: also if nothing has changed, until both snapshots that are kept are of that. Or
                else the log has to keep what came between the two for as long as nothing comes.
        """
        if self._snapshots is None or not self._home.first:
            return
        async with self._lock:
            try:
                snapshot = cut({} if twice and self._again != self._saved else self._saved)
                if snapshot is not None:
                    self._again = await asyncio.to_thread(self._write, self._snapshots, snapshot)
                    self._saved = snapshot.positions
            except Exception as error:
                self._home.alarm(f"no snapshot of view {self._view.name} written: {error}")

    @staticmethod
    def _write(snapshots: Snapshots, snapshot: Snapshot) -> Positions:
        snapshots.write(snapshot)
        return snapshots.tidy()

    def set_aside(self) -> None:
        """The log is not the one that the snapshots are of. Nobody need wait for the disk."""
        if self._snapshots is not None and self._home.first:
            self._setting_aside = asyncio.create_task(self._set_aside(self._snapshots))

    async def _set_aside(self, snapshots: Snapshots) -> None:
        async with self._lock:  # behind one that is being written, before those to come
            self._saved, self._again = {}, {}
            try:
                await asyncio.to_thread(snapshots.set_aside)
            except OSError as error:
                self._home.alarm(
                    f"the snapshots of view {self._view.name} were not set aside: {error}"
                )

    def knows(self, stream: str) -> str:
        """What a snapshot says about `stream`, as one clause; empty if none has read it."""
        name = self._snapshots.knows(stream) if self._snapshots is not None else ""
        return f"{name} is a snapshot of it" if name else ""

    def give_up(self) -> None:
        """What is under way ends."""
        if self._snapshots is not None:
            self._snapshots.stop = True

    # In the log.

    def _from(self, place: tuple[str, int], epoch: str, present: Anchor) -> str:
        if self._home.folder is not None and not self._home.first:
            return present.entry_id  # where it begins again is kept by the first one
        of, anchor = self._again.get(place, (epoch, START))
        return anchor.entry_id if of == epoch else START.entry_id

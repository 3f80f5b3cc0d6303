"""What the store did not take, on disk until it does (P6).

Synced to disk counts as stored. Each process appends to a file of its own and holds a lock on it while it lives. What
lies in any of them is drained by whoever is about to look at turns; the file is removed by its own process, or, once
that is dead, by whoever finds it. What the store will never take, since the turn has a newer owner by now, is set aside
in a file that stays.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import anyio

from legato.core.errors import LegatoError, RowRefused, StaleEpoch
from legato.core.records import TurnWrite
from legato.observability import count, gauge, warn_once
from legato.ports import Store
from legato.runtime.storing import spool_file
from legato.runtime.storing.disk_thread import DiskThread
from legato.runtime.storing.spool_file import SpoolFile

_logger = logging.getLogger(__name__)

GROUP_WRITES = 256
"""Writes given to the store at once, of as many turns: what one flush of a busy server is."""
DISK_SECONDS = 2.0
"""For one look at the disk, or one write with its sync: within what the journal keeps of its lease for this."""
HANGING_SECONDS = 30.0
"""After which a disk that hangs holds up nobody's turns any more: then it is as one that cannot be read."""


class SpoolFailed(LegatoError):
    """It is not on disk."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="persistence_failed")


class Spool:
    """``folder`` is made when it is first needed, and may be shared by processes that share a store."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open: SpoolFile | None = None
        self._sealed: list[SpoolFile] = []
        """In the order of their names, which is that of their making."""
        self._foreign: set[SpoolFile] = set()
        self._seen: dict[Path, int] = {}
        """Files of living processes, and those that cannot be read, with the size up to which they are done with."""
        self._lock: spool_file.FolderLock | None = None
        """Held while files of others are being drained: of two drainers each would take a part, in no order."""
        self._appending = anyio.Lock()
        self._draining = anyio.Lock()
        self._disk = DiskThread(DISK_SECONDS, name="legato-spool")

    @property
    def holds_something(self) -> bool:
        """Of this process."""
        return self._open is not None or bool(self._sealed)

    async def keep(self, writes: Sequence[TurnWrite]) -> None:
        """All of them are on disk when this returns, behind what was kept before. Raises ``SpoolFailed``: they are not,
        nor will they be."""
        if not writes:
            return
        async with self._appending:
            try:
                await self._disk.run(partial(self._append, writes), undo=SpoolFile.forget)
            except OSError as error:
                count("spool_failures")
                raise SpoolFailed(f"{self.folder}: {_why(error)}") from error
        count("spooled_writes", len(writes))
        self._say_how_many()

    async def set_aside(self, writes: Sequence[TurnWrite]) -> None:
        """What no store takes goes to a file that stays. Raises ``SpoolFailed``."""
        try:
            await self._disk.run(partial(spool_file.set_aside, self.folder, writes))
        except OSError as error:
            raise SpoolFailed(f"{self.folder}: {_why(error)}") from error

    async def drain(self, store: Store) -> bool:
        """Give the store what lies here, oldest first.

        True if nothing is left that it could take. What it took is not given again by this process; cancelled, or cut
        by ``StoreError``, it goes on where it was.
        """
        async with self._draining:
            try:
                alone = await self._collect()
            except TimeoutError:
                return self._hopeless()
            while file := await self._oldest():
                try:
                    if not file.closed:  # it was removed, after everybody had given up on that
                        await self._give(file, store)
                        await self._disk.run(file.remove)
                except TimeoutError as error:
                    _logger.warning("%s is stored later: %s", file.path, error)
                    return self._hopeless()
                except OSError as error:
                    count("spool_failures")
                    _logger.warning("%s stays as it is: %s", file.path, _why(error))
                    file.close()
                self._seen[file.path] = file.size
                self._sealed.remove(file)
                self._foreign.discard(file)
                self._say_how_many()
            self._let_others()
            return alone

    async def close(self) -> None:
        """The files stay for the next start."""
        async with self._draining, self._appending:
            files = [*self._sealed, *(() if self._open is None else (self._open,))]
            try:
                await self._disk.run(partial(_close, files))
            except OSError as error:  # the process' end closes them
                _logger.warning("%s: %s", self.folder, _why(error))
            self._open, self._sealed = None, []
            self._foreign.clear()
            self._let_others()

    # In the thread

    def _append(self, writes: Sequence[TurnWrite]) -> SpoolFile:
        if self._open is not None and self._open.spoiled:  # what comes after a piece of a record could not be read
            self._sealed.append(self._open)
            self._open = None
        if self._open is None:
            self._open = SpoolFile.make(self.folder)
        self._open.append(writes)
        return self._open

    def _adopt(self) -> bool:
        """False if somebody else is draining what dead processes left."""
        mine = {file.path for file in (*self._sealed, *(() if self._open is None else (self._open,)))}
        foreign = [path for path in spool_file.files_in(self.folder) if path not in mine]
        if not foreign:
            return True
        if self._lock is None:
            self._lock = spool_file.FolderLock.take(self.folder)
        if self._lock is None:
            return False
        self._seen = {path: size for path, size in self._seen.items() if path in foreign}
        for path in foreign:
            file = SpoolFile.adopt(path)
            if file is not None and self._seen.get(path) == file.size:
                file.close()
            elif file is not None:
                self._sealed.append(file)
                self._foreign.add(file)
        self._sealed.sort(key=lambda file: file.path.name)
        return True

    # Inside

    async def _collect(self) -> bool:
        """Look for what dead processes left. False if somebody else has it. Raises ``TimeoutError``."""
        try:
            async with self._appending:
                return await self._disk.run(self._adopt)
        except TimeoutError:
            raise
        except OSError as error:
            said = f"{self.folder} cannot be read, and what lies in it is not stored: {_why(error)}"
            warn_once(_logger, "spool_unreadable", said)
            return True

    def _hopeless(self) -> bool:
        """What lies on a disk that hangs is stored once it comes back: others wait for that a while, and no longer."""
        if self._disk.hung_for < HANGING_SECONDS:
            return False
        warn_once(_logger, "spool_hangs", f"{self.folder} does not answer, and what lies in it is not stored")
        return True

    async def _oldest(self) -> SpoolFile | None:
        """Our own open one only when nothing else is left: what is appended from now on goes to another."""
        if not self._sealed:
            async with self._appending:
                if self._open is not None:
                    self._sealed.append(self._open)
                    self._open = None
        return self._sealed[0] if self._sealed else None

    async def _give(self, file: SpoolFile, store: Store) -> None:
        while group := await self._disk.run(partial(file.next_group, GROUP_WRITES)):
            await self._write(file, store, group)
            file.advance()
        if file.torn and not file.borrowed:
            count("spool_torn")
            _logger.warning("%s ends in %d bytes that are no whole record: they are left out", file.path, file.torn)

    async def _write(self, file: SpoolFile, store: Store, group: Sequence[TurnWrite]) -> None:
        """A turn that spoils the group is left out of it, and out of all that follows."""
        while writes := [write for write in group if write.turn_id not in file.refused]:
            try:
                await store.write(writes)
            except (StaleEpoch, RowRefused) as refusal:
                if not any(write.turn_id == refusal.turn_id for write in writes):
                    raise
                gone = isinstance(refusal, RowRefused) and await store.turn(refusal.turn_id) is None
                file.refused[refusal.turn_id] = not gone
                count("spool_refused")
                if not gone and not file.borrowed:
                    _logger.warning("turn %s: what %s has of it is set aside: %s", refusal.turn_id, file.path, refusal)
            else:
                count("spool_drained_writes", len(writes))
                return

    def _let_others(self) -> None:
        if self._lock is not None and not self._foreign:
            self._lock.release()
            self._lock = None

    def _say_how_many(self) -> None:
        gauge("spool_files", len(self._sealed) + (self._open is not None))


def _close(files: Sequence[SpoolFile]) -> None:
    for file in files:
        file.close()


def _why(error: OSError) -> str:
    return error.strerror or str(error)

"""The lake: one Parquet file per table and partition, the truth from which all else can be rebuilt.

A partition is replaced as a whole, by renaming a finished file over the old one. Writing is therefore
idempotent, needs no lock, and a kill in the middle changes nothing.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Final
from urllib.parse import quote, unquote
from uuid import uuid4

import pyarrow as pa

from pm_pipeline.errors import PipelineError, UsageError, did_you_mean
from pm_pipeline.warehouse import schema
from pm_pipeline.warehouse.absence import from_stored
from pm_pipeline.warehouse.columns import Table
from pm_pipeline.warehouse.conform import Partition, check_order, conform, in_order
from pm_pipeline.warehouse.files import (
    TEMPORARY,
    Durability,
    StorageError,
    atomic_write,
    make_folder,
    storing,
    sync,
)
from pm_pipeline.warehouse.locks import file_lock
from pm_pipeline.warehouse.partition_file import (
    ROW_GROUP,
    Bounds,
    PartitionInfo,
    bounds_of,
    check_columns,
    open_file,
    read_info,
    read_values,
    write_file,
)
from pm_pipeline.warehouse.schema import SCHEMA_VERSION

WHOLE: Final[Partition] = ("all",)
"""The one partition of a table that is not divided."""

_SUFFIX: Final = ".parquet"
_HELD_FOR_S: Final = 600.0
_ASIDE: Final = "_withdrawn"
_MARKER: Final = "_lake.json"
_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})
_FETCHED_BY: Final = {"backtest": "bt backtest"}


class MissingPartitionError(PipelineError):
    """A partition was asked for that nobody has written yet."""


class SchemaVersionError(PipelineError):
    """The lake was written by another version of the declared tables."""


class Lake:
    """Partition files under ``root``: ``<table>/<leading parts>/<2 hex>/<last part>.parquet``.

    A partition is a tuple of parts (a plain ``str`` stands for one part). Parts may be any text: they are
    percent-quoted in names, and the rows keep their key columns. ``durability`` says what a finished write
    survives. ``schema_version`` is the version of the code, another one is for tests of migrations.

    Raises
    ------
    SchemaVersionError
        when the lake was written by newer code.
    """

    def __init__(
        self, root: Path, *, durability: Durability = "fsync", schema_version: int = SCHEMA_VERSION
    ) -> None:
        self.root = Path(root)
        self.durability: Durability = durability
        self.schema_version = schema_version
        self._is_current = self._is_marked = False
        found = self.version()
        if found > schema_version:
            raise SchemaVersionError(
                f"{self.root} has schema version {found}, this code knows {schema_version}: it was "
                "written by a newer pm_pipeline. Install that version, or use another lake"
            )

    def __repr__(self) -> str:
        return f"Lake({str(self.root)!r})"

    # ------------------------------------------------------------------ writing

    def write(
        self,
        table: str,
        partition: Partition | str,
        rows: pa.Table | pa.RecordBatch | Iterable[pa.RecordBatch],
        *,
        meta: Mapping[str, str] = _NOTHING,
    ) -> PartitionInfo:
        """Replace a partition by ``rows``.

        A ``pa.Table`` is sorted here; a stream of batches must come sorted and is never held whole.
        ``meta`` is kept in the footer. On any error the partition stays as it was.

        Raises
        ------
        SchemaError
            for an unknown, missing, mistyped or null column, an unsorted stream, a row of another market.
        StorageError
            when the file cannot be written, for example on a full disk.
        """
        declared = schema.table(table)
        parts = _parts(declared, partition)
        self._prepare()
        if isinstance(rows, pa.RecordBatch):
            rows = pa.Table.from_batches([rows])
        if isinstance(rows, pa.Table):
            pieces: Iterable[pa.Table] = [in_order(declared, conform(declared, parts, rows))]
        else:
            pieces = check_order(declared, parts, (conform(declared, parts, batch) for batch in rows))
        return self._replace(declared, parts, pieces, meta)

    def _replace(
        self, table: Table, parts: Partition, pieces: Iterable[pa.Table], meta: Mapping[str, str]
    ) -> PartitionInfo:
        return write_file(
            self._path(table, parts),
            table,
            parts,
            pieces,
            meta=meta,
            schema_version=self.schema_version,
            durability=self.durability,
        )

    @contextmanager
    def changing(self, table: str, partition: Partition | str) -> Iterator[None]:
        """Hold a partition whose new rows are made of the stored ones: two at once would lose one's rows.

        Raises :class:`~pm_pipeline.warehouse.locks.LockTimeoutError` when another holds it for too long.
        """
        declared = schema.table(table)
        path = self._path(declared, _parts(declared, partition))
        self._prepare()
        with file_lock(path, mode="exclusive", timeout_s=_HELD_FOR_S):
            yield

    def delete(self, table: str, partition: Partition | str) -> bool:
        """Remove a partition; whether there was one."""
        declared = schema.table(table)
        path = self._path(declared, _parts(declared, partition))
        if not path.exists():
            return False
        with storing(path):
            path.unlink(missing_ok=True)
            if self.durability == "fsync":
                sync(path.parent)
        return True

    def set_aside(self, table: str, partition: Partition | str) -> Path | None:
        """Take a partition out of the table and keep its file; where it lies now, ``None`` if there was none.

        What was saved in time may be all there is: a venue forgets its history, so nothing is thrown away.
        """
        info = self.info(table, partition)
        if info is None:
            return None
        declared = schema.table(table)
        path = self._path(declared, _parts(declared, partition))
        aside = self.root / _ASIDE / path.relative_to(self.root)
        aside = aside.with_name(f"{path.stem}.{info.fingerprint[:12]}{_SUFFIX}")
        make_folder(aside.parent, self.durability)
        with storing(path):
            path.replace(aside)
            if self.durability == "fsync":
                sync(path.parent)
                sync(aside.parent)
        return aside

    def sweep(self, older_than_s: float) -> list[Path]:
        """Remove what killed writers left behind, if untouched for so many seconds; the removed paths."""
        limit = time.time() - older_than_s
        removed = []
        for folder, folders, files in os.walk(self.root):
            unfinished = [name for name in (*folders, *files) if name.startswith(TEMPORARY)]
            folders[:] = [name for name in folders if not name.startswith(TEMPORARY)]
            for path in (Path(folder, name) for name in unfinished):
                with suppress(FileNotFoundError):
                    if path.stat().st_mtime <= limit:
                        shutil.rmtree(path) if path.is_dir() else path.unlink()
                        removed.append(path)
        return removed

    # ------------------------------------------------------------------ reading

    def read(self, table: str, partition: Partition | str, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows of a partition, in the order of ``sorted_by``.

        Raises
        ------
        MissingPartitionError
            when nobody has written it yet; an empty partition is not missing.
        StorageError
            when the file is damaged.
        """
        declared = schema.table(table)
        parts = _parts(declared, partition)
        wanted = _projection(declared, columns)
        self.require_current()
        path = self._path(declared, parts)
        with self._reading(declared, parts, path), open_file(path) as file:
            check_columns(path, file.schema_arrow, declared)
            return from_stored(declared, file.read(wanted.names).select(wanted.names))

    def scan(
        self,
        table: str,
        partitions: Iterable[Partition | str] | None = None,
        columns: Sequence[str] | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """The rows of many partitions (all of them by default), a batch at a time."""
        declared = schema.table(table)
        wanted = _projection(declared, columns)
        self.require_current()
        for partition in self.partitions(table) if partitions is None else partitions:
            parts = _parts(declared, partition)
            path = self._path(declared, parts)
            with self._reading(declared, parts, path), open_file(path) as file:
                check_columns(path, file.schema_arrow, declared)
                for batch in file.iter_batches(ROW_GROUP, columns=wanted.names):
                    rows = pa.Table.from_batches([batch.select(wanted.names)])
                    yield from from_stored(declared, rows).to_batches()

    def batches(
        self, table: str, partition: Partition | str, columns: Sequence[str], *, rows: int = ROW_GROUP
    ) -> Iterator[pa.RecordBatch]:
        """The rows of one partition, so many at a time, read in this thread in the memory of a row group."""
        declared = schema.table(table)
        for batch in self.stored(table, partition, columns, rows=rows):
            shown = from_stored(declared, pa.Table.from_batches([batch]))
            yield from shown.select(columns).to_batches()

    def stored(
        self,
        table: str,
        partition: Partition | str,
        columns: Sequence[str],
        *,
        coded: Sequence[str] = (),
        rows: int = ROW_GROUP,
        needed: Callable[[Bounds], Sequence[str]] | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """The rows of one partition as they lie in the file, for those who read at full speed.

        A value may stand for null, see :mod:`pm_pipeline.warehouse.absence`. Text columns that are also in
        ``coded`` come as dictionaries; the codes of two batches may differ. ``needed`` says before each row
        group which of ``columns`` it takes, from the least and greatest value of each in that group.
        """
        declared = schema.table(table)
        parts = _parts(declared, partition)
        wanted = _projection(declared, columns)
        self.require_current()
        path = self._path(declared, parts)
        with self._reading(declared, parts, path), open_file(path, coded) as file:
            metadata = file.metadata
            check_columns(path, metadata.schema.to_arrow_schema(), declared)
            places = {metadata.schema.column(n).path: n for n in range(metadata.num_columns)}
            for group in range(metadata.num_row_groups):
                names = wanted.names
                if needed is not None:
                    names = needed(partial(bounds_of, metadata.row_group(group), places))
                yield from file.iter_batches(rows, row_groups=[group], columns=names, use_threads=False)

    def exists(self, table: str, partition: Partition | str) -> bool:
        """Whether the partition was written."""
        declared = schema.table(table)
        return self._path(declared, _parts(declared, partition)).exists()

    def info(self, table: str, partition: Partition | str) -> PartitionInfo | None:
        """What the footer of a partition says, or ``None`` where there is no partition."""
        declared = schema.table(table)
        parts = _parts(declared, partition)
        path = self._path(declared, parts)
        if not path.exists():
            return None
        with self._reading(declared, parts, path):
            return read_info(path)

    def values(self, table: str, partition: Partition | str, column: str) -> list[int] | None:
        """The distinct values of a ``listed`` column, rising; ``None`` where they are not listed.

        That is so where they are many, and in files that were written before columns were listed.
        """
        declared = schema.table(table)
        parts = _parts(declared, partition)
        self.require_current()
        path = self._path(declared, parts)
        with self._reading(declared, parts, path):
            return read_values(path, column)

    def partitions(self, table: str, prefix: Partition | str = ()) -> list[Partition]:
        """The partitions of a table whose first parts are ``prefix``, sorted."""
        declared = schema.table(table)
        given = (prefix,) if isinstance(prefix, str) else tuple(prefix)
        return sorted(parts for parts, _ in self._walk(declared) if parts[: len(given)] == given)

    def paths(self, table: str, partitions: Iterable[Partition | str] | None = None) -> list[Path]:
        """The files of a table, or of those of its ``partitions`` that there are; sorted."""
        declared = schema.table(table)
        if partitions is None:
            return sorted(path for _, path in self._walk(declared))
        named = (self._path(declared, _parts(declared, partition)) for partition in partitions)
        return sorted(path for path in named if path.exists())

    @contextmanager
    def snapshot(self, table: str) -> Iterator[Path]:
        """A folder that holds the files of a table as they are now, whatever is written meanwhile.

        The files are hard links, so this costs no space. DuckDB needs it: it opens a file twice by its
        name, and would read the pages of a new file with the footer of the old one.
        """
        home = self.root / table
        folder = self.root / f"{TEMPORARY}{os.getpid()}-{uuid4().hex}"
        try:
            with storing(folder):
                folder.mkdir(parents=True)
                for path in self.paths(table):
                    link = folder / path.relative_to(home)
                    link.parent.mkdir(parents=True, exist_ok=True)
                    with suppress(FileNotFoundError):  # deleted since it was listed
                        _link(path, link)
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    # ------------------------------------------------------------------ versions

    def version(self) -> int:
        """The schema version that the marker names; that of the code for a lake without any table.

        A lake that lost its marker counts as version 1; migrating it is harmless, because each file knows
        its own version.
        """
        marker = self.root / _MARKER
        try:
            return int(json.loads(marker.read_bytes())["schema_version"])
        except FileNotFoundError:
            used = any(entry.is_dir() for entry in _entries(self.root))
            return 1 if used else self.schema_version
        except (ValueError, KeyError, TypeError) as error:
            raise StorageError(
                f"{marker} is damaged: remove it and run the migration, which looks at every file"
            ) from error

    def mark_version(self, version: int) -> None:
        """Write the marker."""
        with atomic_write(self.root / _MARKER, self.durability) as temporary, storing(temporary):
            temporary.write_text(json.dumps({"schema_version": version}) + "\n")

    def require_current(self) -> None:
        """Raise :class:`SchemaVersionError` unless the lake has the version of the code."""
        if self._is_current:
            return
        found = self.version()
        if found != self.schema_version:
            raise SchemaVersionError(
                f"{self.root} has schema version {found}, this code needs {self.schema_version}: run "
                "`bt migrate`, which keeps every row"
            )
        self._is_current = True

    def _prepare(self) -> None:
        """Make sure that the lake is current and says so, before the first partition is written."""
        if not self._is_marked:
            self.require_current()
            if not (self.root / _MARKER).exists():
                self.mark_version(self.schema_version)
            self._is_marked = True

    def read_stored(self, table: str, partition: Partition) -> tuple[pa.Table, PartitionInfo]:
        """The rows as they lie in the file, whatever its version, with its footer. For migrations."""
        declared = schema.table(table)
        path = self._path(declared, partition)
        with self._reading(declared, partition, path), open_file(path) as file:
            return from_stored(declared, file.read()), read_info(path)

    def rewrite(self, table: str, partition: Partition, rows: pa.Table, meta: Mapping[str, str]) -> None:
        """Replace a partition in a lake that is not current. For migrations."""
        declared = schema.table(table)
        self._replace(declared, partition, [in_order(declared, conform(declared, partition, rows))], meta)

    # ------------------------------------------------------------------ files

    def _path(self, table: Table, parts: Partition) -> Path:
        *leading, last = parts
        shard = hashlib.sha256(last.encode()).hexdigest()[:2]
        return self.root.joinpath(table.name, *map(_quoted, leading), shard, _quoted(last) + _SUFFIX)

    def _walk(self, table: Table) -> Iterator[tuple[Partition, Path]]:
        """Every partition of a table with its file."""
        pending: list[tuple[Partition, Path]] = [((), self.root / table.name)]
        for _ in range(_arity(table)):  # one folder per leading part, then the shard
            pending = [
                ((*parts, unquote(entry.name)), Path(entry))
                for parts, folder in pending
                for entry in _entries(folder)
                if entry.is_dir()
            ]
        for (*leading, _), folder in pending:
            for entry in _entries(folder):
                if entry.name.endswith(_SUFFIX) and not entry.name.startswith(TEMPORARY):
                    yield (*leading, unquote(entry.name.removesuffix(_SUFFIX))), Path(entry)

    @contextmanager
    def _reading(self, table: Table, parts: Partition, path: Path) -> Iterator[None]:
        shown = "/".join(parts)
        try:
            yield
        except FileNotFoundError as error:
            command = _FETCHED_BY.get(table.name.partition(".")[0], "bt fetch")
            raise MissingPartitionError(
                f"{table.name} has no partition {shown} in {self.root}: run `{command}` for it, or "
                "materialise its asset in Dagster"
            ) from error
        except (pa.ArrowException, OSError) as error:
            raise StorageError(
                f"{path} is damaged ({error}): delete it and materialise partition {shown} of {table.name} "
                "again; raw pages that were archived are re-read without fetching"
            ) from error


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except FileNotFoundError:
        return []


def _link(path: Path, link: Path) -> None:
    try:
        link.hardlink_to(path)
    except FileNotFoundError:
        raise
    except OSError:  # a file system without hard links
        shutil.copyfile(path, link)


def _arity(table: Table) -> int:
    return table.partitioned_by.value.count("/") + 1


def _parts(table: Table, partition: Partition | str) -> Partition:
    parts = (partition,) if isinstance(partition, str) else tuple(partition)
    if len(parts) != _arity(table) or not all(parts):
        raise UsageError(
            f"{parts!r} is not a partition of {table.name}, which is partitioned by {table.partitioned_by}"
        )
    return parts


def _quoted(part: str) -> str:
    """A file name for any text; a leading dot would hide it, or climb out of the lake."""
    name = quote(part, safe="")
    return f"%2E{name[1:]}" if name.startswith(".") else name


def _projection(table: Table, columns: Sequence[str] | None) -> pa.Schema:
    declared: pa.Schema = table.arrow
    if columns is None:
        return declared
    for name in columns:
        if name not in declared.names:
            raise UsageError(f"{table.name} has no column {name!r}{did_you_mean(name, declared.names)}")
    return pa.schema([declared.field(name) for name in columns])

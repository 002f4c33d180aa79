"""The file of a checkpoint: an npz of raw bytes, and a manifest that is checked first."""

import errno
import hashlib
import io
import json
import math
import os
import re
import zipfile
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from bayesal import _files, errors

VERSION = 2  # a change of the format adds a migration and a file to tests/data

_MANIFEST_LIMIT = 2**24  # bytes; some 80,000 leaves
_HEADER_LIMIT = 2**10  # bytes of an npy header; NumPy writes 128
_MAGIC = b"\x93NUMPY\x01\x00"
_FORMS = ("jax", "numpy", "scalar", "python")


def write(path: Any, entries: list[dict], leaves: list[bytes]) -> None:
    """Write leaves as raw bytes. An entry has a leaf's name, shape, dtype, form and kind of key."""
    signed = [
        entry | {"sha256": _digest(data)} for entry, data in zip(entries, leaves, strict=True)
    ]
    manifest = json.dumps({"bayesal": VERSION, "leaves": signed}).encode()
    if len(manifest) > _MANIFEST_LIMIT:
        raise errors.WrongSize(
            "state",
            f"`state` has {len(leaves)} leaves, more than one file can list. Stack them into "
            "fewer arrays.",
        )
    _files.write(path, lambda file: _pack(file, manifest, leaves))


def read(path: Any) -> tuple[list[dict], list[memoryview]]:
    """Manifest entries and bytes of all leaves, verified and in today's format."""
    with _files.opened(path) as file:
        try:
            manifest, leaves = _unpacked(file)
            written = manifest["bayesal"]
            if written <= VERSION:
                for version in range(written, VERSION):
                    manifest, leaves = _MIGRATIONS[version](manifest, leaves)
                return manifest["leaves"], leaves
        except Exception as error:  # damage reaches zipfile and json anywhere: nearly any type
            hardware = isinstance(error, OSError) and error.errno not in (
                errno.EINVAL,  # a damaged offset sends `seek` to nowhere
                errno.EOVERFLOW,
            )
            if hardware or isinstance(error, MemoryError):
                raise
            raise errors.BadCheckpoint(
                "path",
                f"{path} is not a whole checkpoint ({error}). It was cut short, changed after "
                "it was saved, or written by another program; use an earlier one.",
            ) from error
    raise errors.BadCheckpoint(
        "path",
        f"{path} has format {written}, and this bayesal reads formats up to {VERSION}. Update "
        "bayesal.",
    )


def kept(dtype: np.dtype) -> bool:
    """Whether a dtype means the same bits everywhere; long doubles do not."""
    number = dtype == np.bool_ or jnp.issubdtype(dtype, np.number)
    return bool(number) and dtype.kind != "m" and dtype.type not in (np.longdouble, np.clongdouble)


def _digest(data: bytes | memoryview) -> str:
    return hashlib.sha256(data).hexdigest()


def _pack(file: io.BufferedWriter, manifest: bytes, leaves: list[bytes]) -> None:
    """An npz that `np.load` reads too. The manifest's own sha256 is the archive's comment."""
    members = {"manifest": manifest} | {f"leaf_{i}": data for i, data in enumerate(leaves)}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo(f"{name}.npy")  # without a date: equal states, equal files
            with archive.open(info, "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.frombuffer(data, np.uint8), (1, 0))
        archive.comment = _digest(manifest).encode()


def _unpacked(file: io.BufferedReader) -> tuple[dict, list[memoryview]]:
    """Manifest and leaves of any version. Sizes are checked before anything is unpacked."""
    with zipfile.ZipFile(file) as archive:
        members = {info.filename: info for info in archive.infolist()}
        # Stored members that together fit into the file: nothing grows on the way to memory, and
        # no bytes are read twice.
        if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
            raise ValueError("its members are compressed")
        if sum(info.file_size for info in archive.infolist()) > os.fstat(file.fileno()).st_size:
            raise ValueError("its members claim more bytes than the file has")
        if "manifest.npy" not in members:
            raise ValueError("it has no manifest")
        if members["manifest.npy"].file_size > _MANIFEST_LIMIT + _HEADER_LIMIT:
            raise ValueError("its manifest is too long")
        text = _payload(archive, members["manifest.npy"])
        if archive.comment and archive.comment.decode() != _digest(text):
            raise ValueError("the checksum of its manifest differs")
        manifest = json.loads(bytes(text))
        version = manifest["bayesal"]
        if type(version) is not int or version < 1:
            raise ValueError(f"its format is {version!r}")
        if version > VERSION:
            return manifest, []
        sizes = [_nbytes(entry) for entry in manifest["leaves"]]
        infos = [members[f"leaf_{i}.npy"] for i in range(len(sizes))]
        if len(archive.infolist()) != len(infos) + 1:
            raise ValueError("its members are not those of its manifest")
        for entry, size, info in zip(manifest["leaves"], sizes, infos, strict=True):
            if not 0 < info.file_size - size <= _HEADER_LIMIT:
                raise ValueError(f"leaf {entry['name']} has another size than its manifest says")
        leaves = [_payload(archive, info) for info in infos]
    for entry, size, leaf in zip(manifest["leaves"], sizes, leaves, strict=True):
        if len(leaf) != size or _digest(leaf) != entry["sha256"]:
            raise ValueError(f"leaf {entry['name']} is damaged, its checksum differs")
    return manifest, leaves


def _payload(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> memoryview:
    """The bytes behind an npy header, which is skipped and never parsed."""
    data = archive.read(info)
    if data[: len(_MAGIC)] != _MAGIC:
        raise ValueError(f"{info.filename} is no array")
    return memoryview(data)[10 + int.from_bytes(data[8:10], "little") :]


def _nbytes(entry: dict) -> int:
    """The size of a leaf by its manifest entry, every field of which is checked."""
    name, shape, dtype, key = (entry[field] for field in ("name", "shape", "dtype", "key"))
    if not isinstance(name, str) or not isinstance(key, str | None):
        raise ValueError("its manifest has no names")
    if not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError(f"leaf {name} has shape {shape!r}")
    if not re.fullmatch(r"\w+", dtype) or not kept(np.dtype(dtype)):
        raise ValueError(f"leaf {name} has dtype {dtype!r}")
    if entry.get("form", "jax") not in _FORMS:
        raise ValueError(f"leaf {name} has form {entry['form']!r}")
    return math.prod(shape) * np.dtype(dtype).itemsize


_Content = tuple[dict, list[memoryview]]


def _from_1(manifest: dict, leaves: list[memoryview]) -> _Content:
    """Format 1 gave every leaf back as a JAX array."""
    entries = [entry | {"form": "jax"} for entry in manifest["leaves"]]
    return manifest | {"bayesal": 2, "leaves": entries}, leaves


# From format n to format n + 1: manifest and leaves, as `_unpacked` gives them.
_MIGRATIONS: dict[int, Callable[[dict, list[memoryview]], _Content]] = {1: _from_1}

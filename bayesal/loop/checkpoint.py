"""Save and restore any state: one file, no pickle, every bit checked."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayesal import errors

VERSION = 1


def save(path: str | os.PathLike, state: Any) -> None:
    """Write a pytree of arrays (a `LearnerState`) to `path`, whole or not at all.

    The file is an npz: raw bytes per leaf, and a manifest with names, shapes, types and a sha256.
    It replaces what was there only when it is complete and on disk.
    """
    path = Path(path)
    leaves, manifest = {}, []
    for i, (name, leaf) in enumerate(_named(state)):
        array, kind = _plain(leaf)
        leaves[f"leaf_{i}"] = np.frombuffer(array.tobytes(), np.uint8)
        manifest.append(
            {
                "name": name,
                "shape": list(array.shape),
                "dtype": str(array.dtype),
                "key": kind,
                "sha256": _digest(leaves[f"leaf_{i}"]),
            }
        )
    text = json.dumps({"bayesal": VERSION, "leaves": manifest}).encode()
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(part, "wb") as file:
            np.savez(file, manifest=np.frombuffer(text, np.uint8), **leaves)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def restore(path: str | os.PathLike, like: Any) -> Any:
    """Read what `save` wrote, with the structure of `like` (for example a fresh `init(key, x)`).

    Raises:
      BadCheckpoint: the file is damaged, is no checkpoint, or holds another structure than `like`.
        FileNotFoundError.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            manifest = json.loads(file["manifest"].tobytes())
            if manifest["bayesal"] != VERSION:
                raise ValueError(
                    f"its format is {manifest['bayesal']!r}, and this bayesal reads {VERSION}"
                )
            for entry in manifest["leaves"]:
                entry["name"], entry["shape"], entry["dtype"], entry["key"], entry["sha256"]
            raw = [file[f"leaf_{i}"] for i in range(len(manifest["leaves"]))]
    except FileNotFoundError:
        raise
    except (
        Exception
    ) as error:  # damage reaches zipfile and json anywhere, and they raise nearly anything
        raise errors.BadCheckpoint(
            "path",
            f"{path} is not a whole checkpoint ({error}). It was cut short or changed after "
            "it was saved; use an earlier one.",
        ) from error
    named = _named(like)
    have, want = [e["name"] for e in manifest["leaves"]], [name for name, _ in named]
    if have != want:
        odd = sorted(set(have) ^ set(want))
        raise errors.BadCheckpoint(
            "like",
            f"{path} holds another structure than `like`; they differ in {odd[:5]}. Build "
            "the learner as it was built when the state was saved.",
        )
    leaves = [
        _leaf(path, entry, data, leaf)
        for entry, data, (_, leaf) in zip(manifest["leaves"], raw, named, strict=True)
    ]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _named(state: Any) -> list[tuple[str, Any]]:
    return [
        (jax.tree_util.keystr(path), leaf)
        for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]
    ]


def _plain(leaf: Any) -> tuple[np.ndarray, str | None]:
    """A leaf as plain numbers, and the kind of key it is, if it is one."""
    if hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return np.asarray(jax.random.key_data(leaf)), str(jax.random.key_impl(leaf))
    return np.asarray(leaf), None


def _digest(data: np.ndarray) -> str:
    return hashlib.sha256(data.tobytes()).hexdigest()


def _leaf(path: Any, entry: dict, data: np.ndarray, like: Any) -> jax.Array:
    name, (wanted, kind) = entry["name"], _plain(like)
    if _digest(data) != entry["sha256"]:
        raise errors.BadCheckpoint(
            "path",
            f"{path}: leaf {name} is damaged (its checksum differs); use an earlier checkpoint.",
        )
    have = (entry["dtype"], tuple(entry["shape"]), entry["key"])
    if have != (str(wanted.dtype), wanted.shape, kind):
        raise errors.BadCheckpoint(
            "like",
            f"{path}: leaf {name} is {have}, but `like` has "
            f"{(str(wanted.dtype), wanted.shape, kind)} there: another network, capacity or "
            "posterior.",
        )
    array = jnp.asarray(data.view(wanted.dtype).reshape(wanted.shape))
    return jax.random.wrap_key_data(array, impl=kind) if kind else array

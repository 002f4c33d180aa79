"""Save and restore any state: one file, no pickle, every bit checked."""

import os
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bayesal import errors
from bayesal.loop import _archive

__all__ = ["labels", "restore", "save"]

_PYTHON = {bool: np.bool_, int: np.int64, float: np.float64, complex: np.complex128}


class Labels(NamedTuple):
    """The labeled set of a checkpoint, as NumPy arrays in order of acquisition.

    indices: rows of the pool `[n]`.
    labels:  labels `[n, ...]`; a dict of such arrays where a label has several parts.
    weight:  weight of each label `[n]`, or None if the checkpoint has none.
    source:  origin of each label `[n]`, or None if the checkpoint has none.
    """

    indices: np.ndarray
    labels: np.ndarray | dict[str, np.ndarray]
    weight: np.ndarray | None
    source: np.ndarray | None


def save(path: str | os.PathLike, state: Any) -> None:
    """Write a pytree of arrays (a `LearnerState`) to `path`, whole or not at all.

    Leaves are JAX arrays, PRNG keys, NumPy arrays and scalars, and Python numbers. `restore` gives
    each back as what it was, bit for bit. Big-endian arrays come back in the byte order of the
    machine.

    The file is an npz: raw bytes per leaf, and a manifest with names, shapes, types and a sha256.
    It takes over the name only when it is complete and on disk. Threads and processes may save to
    one path: the last one wins, and readers see a whole file. A symbolic link is followed, and the
    mode of a replaced file is kept. Of several hard links, only `path` gets the new file.

    Args:
      path: the file; its folder exists.
      state: any pytree of such leaves.
    Raises:
      WrongType: a leaf cannot be restored (a function, a string, a masked array). The message names
        it, and the old file is untouched.
      WrongSize: more leaves than a manifest holds, about 80,000.
      BadPath: a folder, a device or an impossible name.
      OSError: the disk is full or failed. The old file is untouched.

    >>> import tempfile
    >>> path = tempfile.mkdtemp() + "/state.npz"
    >>> save(path, {"ids": np.array([2**40 + 7]), "rate": 0.1})
    >>> restore(path, like={"ids": np.array([0]), "rate": 0.0})
    {'ids': array([1099511627783]), 'rate': 0.1}
    """
    entries, leaves = [], []
    for name, leaf in _named(state):
        array, form, key = _plain(name, leaf, "state")
        leaves.append(array.tobytes())  # a copy: what is hashed is what is written
        entries.append(
            {
                "name": name,
                "shape": list(array.shape),
                "dtype": array.dtype.name,
                "form": form,
                "key": key,
            }
        )
    _archive.write(path, entries, leaves)


def restore(path: str | os.PathLike, like: Any) -> Any:
    """Read what `save` wrote, with the structure of `like` (for example a fresh `init(key, x)`).

    Args:
      path: the file.
      like: a pytree with the names, shapes and types that were saved; its values are not used.
    Raises:
      BadCheckpoint: the file is damaged, is no checkpoint, or holds another structure than `like`.
      BadPath: a folder, a device or an impossible name.
      FileNotFoundError: there is no such file.
    """
    entries, leaves = _archive.read(path)
    named = _named(like)
    have, want = [e["name"] for e in entries], [name for name, _ in named]
    if have != want:
        odd = sorted(set(have) ^ set(want))[:5] or "the order of leaves"
        raise errors.BadCheckpoint(
            "like",
            f"{path} holds another structure than `like`; they differ in {odd}. Build "
            "the learner as it was built when the state was saved.",
        )
    for entry, (name, leaf) in zip(entries, named, strict=True):
        wanted, _, key = _plain(name, leaf, "like")
        saved = (entry["dtype"], tuple(entry["shape"]), entry["key"])
        if saved != (wanted.dtype.name, wanted.shape, key):
            raise errors.BadCheckpoint(
                "like",
                f"{path}: leaf {name} is {saved}, but `like` has "
                f"{(wanted.dtype.name, wanted.shape, key)} there. The usual cause is another "
                "network, capacity, posterior or setting of jax_enable_x64.",
            )
    restored = [_restored(entry, data) for entry, data in zip(entries, leaves, strict=True)]
    return jax.tree.unflatten(jax.tree.structure(like), restored)


def labels(path: str | os.PathLike) -> Labels:
    """Read the labeled set of a saved state without the learner that made it.

    Only the file is needed: no network, no posterior, no pool. Every leaf is verified as `restore`
    does.

    Args:
      path: a file that `save` wrote. Its state has one `ledger`.
    Returns:
      Indices, labels, weights and sources of the labeled rows, as NumPy arrays. Labels with several
      parts are a dict with the parts' names as keys: `"boxes"`, or `"person.age"` for nested parts.
    Raises:
      BadCheckpoint: the file is damaged, is no checkpoint, or has no ledger.
      BadPath: a folder, a device or an impossible name.
      FileNotFoundError: there is no such file.
    """
    entries, leaves = _archive.read(path)
    ends = ".ledger.indices"
    ledgers = [e["name"].removesuffix("indices") for e in entries if e["name"].endswith(ends)]
    if len(ledgers) != 1:
        raise errors.BadCheckpoint(
            "path",
            f"{path} has {len(ledgers)} labeled sets, not one. Pass a file that holds one "
            "LearnerState, or restore it with `like`.",
        )
    found = {
        entry["name"].removeprefix(ledgers[0]): _array(entry, data)
        for entry, data in zip(entries, leaves, strict=True)
        if entry["name"].startswith(ledgers[0])
    }
    several = {
        _spoken(name.removeprefix("labels")): leaf
        for name, leaf in found.items()
        if re.match(r"labels\b", name)
    }
    if "count" not in found or not several:
        raise errors.BadCheckpoint(
            "path", f"{path} has an incomplete labeled set: leaves {sorted(found)}."
        )
    count = int(found["count"])
    optional = lambda name: found[name][:count] if name in found else None
    return Labels(
        indices=found["indices"][:count],
        labels=found["labels"][:count]
        if "labels" in found
        else {name: leaf[:count] for name, leaf in several.items()},
        weight=optional("weight"),
        source=optional("source"),
    )


# leaves


def _named(state: Any) -> list[tuple[str, Any]]:
    return [
        (jax.tree_util.keystr(path), leaf)
        for path, leaf in jax.tree_util.tree_flatten_with_path(state)[0]
    ]


def _spoken(name: str) -> str:
    """`['person'].age` as `person.age`; names with other characters stay as JAX writes them."""
    plain = re.fullmatch(r"(\.\w+|\[\d+\]|\['\w+'\])+", name)
    return ".".join(re.findall(r"\w+", name)) if plain else name


def _plain(name: str, leaf: Any, argument: str) -> tuple[np.ndarray, str, str | None]:
    """A leaf as plain numbers, what it is, and the kind of key; or an error that names it."""
    key = None
    if isinstance(leaf, np.ma.MaskedArray):
        raise _refused(name, argument, "a masked array. Fill it (`.filled(0)`) or drop the rows")
    try:
        if isinstance(leaf, jax.Array):
            form = "jax"
            if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
                key, leaf = str(jax.random.key_impl(leaf)), jax.random.key_data(leaf)
            array = np.asarray(leaf)
        elif isinstance(leaf, np.ndarray | np.generic):
            form = "numpy" if isinstance(leaf, np.ndarray) else "scalar"
            array = np.asarray(leaf)
        elif type(leaf) in _PYTHON:
            form, array = "python", np.asarray(leaf, _PYTHON[type(leaf)])
        else:
            raise _refused(name, argument, f"of type {type(leaf).__name__}")
    except (RuntimeError, OverflowError, jax.errors.JAXTypeError) as error:
        # deleted, spread over processes, traced by jit, or an int above 64 bits
        raise _refused(name, argument, f"not readable ({error})") from error
    if not _archive.kept(array.dtype):
        raise _refused(name, argument, f"an array of dtype {array.dtype}")
    return array.astype(array.dtype.newbyteorder("="), copy=False), form, key


def _refused(name: str, argument: str, what: str) -> errors.WrongType:
    return errors.WrongType(
        argument,
        f"`{argument}`: leaf {name or '(the only one)'} is {what}. A checkpoint holds arrays of "
        "numbers, PRNG keys and Python numbers; keep everything else outside of the state.",
    )


def _array(entry: dict, data: memoryview) -> np.ndarray:
    """The numbers of a leaf, in memory of their own."""
    return np.frombuffer(data, entry["dtype"]).reshape(entry["shape"]).copy()


def _restored(entry: dict, data: memoryview) -> Any:
    array, form = _array(entry, data), entry["form"]
    if form == "jax":
        with jax.enable_x64(True):  # 64-bit arrays stay so, whatever today's setting
            leaf = jnp.asarray(array)
        return jax.random.wrap_key_data(leaf, impl=entry["key"]) if entry["key"] else leaf
    return {"numpy": lambda: array, "scalar": lambda: array[()], "python": array.item}[form]()


def __dir__() -> list[str]:
    return __all__

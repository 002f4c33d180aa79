"""Pools that are not in memory: files, memory maps, iterators of chunks, read once from front to
back in constant memory.

One compiled program serves every chunk, and the next chunk is read while the current one is
computed. Everything here runs on the host around that program: it is for calling, not for use under
jit. For a pool that fits in memory use `bayesal.acquire`.
"""

from bayesal.stream.ranked import CHUNK, Candidates, candidates, scores, top
from bayesal.stream.screened import batch_bald

__all__ = ["CHUNK", "Candidates", "batch_bald", "candidates", "scores", "top"]

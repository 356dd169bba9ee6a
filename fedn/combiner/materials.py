"""What clients fetch for a task: the model, and the compute package if there is one.

Both lie in the combiner's cache of blobs by digest, once for all of its clients, for as long as a part or
validation is open. Used by `driver.py` and `validations.py`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from fedn.domain.ids import Digest
from fedn.domain.round import RoundSpec, ValidationSpec
from fedn.ports import ReducerLink
from fedn.stores.cache import ModelCache

Spec = RoundSpec | ValidationSpec


@asynccontextmanager
async def having(cache: ModelCache, reducer: ReducerLink, spec: Spec) -> AsyncIterator[None]:
    """Have both here inside the block. Raises what `ModelCache.using` does."""
    async with AsyncExitStack() as stack:
        fetch = reducer.fetch_model
        await stack.enter_async_context(cache.using(spec.model, spec.model_size, fetch, spec.inline))
        if spec.package:
            await stack.enter_async_context(cache.using(Digest(spec.package), spec.package_size, fetch))
        yield


def pin(cache: ModelCache, spec: Spec) -> None:
    """Keep both, until as many calls of `unpin`."""
    for digest in _digests(spec):
        cache.pin(digest)


def unpin(cache: ModelCache, spec: Spec) -> None:
    for digest in _digests(spec):
        cache.unpin(digest)


def _digests(spec: Spec) -> list[Digest]:
    return [spec.model, Digest(spec.package)] if spec.package else [spec.model]

"""What the losses that read a queue share: its width, and which of its entries show the query's own image."""

from __future__ import annotations

from torch import Tensor

from . import _checks


def own_image(query: Tensor, queue: Tensor, query_index: Tensor | None, queue_index: Tensor | None) -> Tensor | None:
    """Entries that are no negatives, because they show the very image being queried.

    Args:
        query: ``(B, D)`` embeddings.
        queue: ``(K, D)`` earlier embeddings.
        query_index: ``(B,)`` number of each query's image in the data set, or None.
        queue_index: ``(K,)`` number of the image behind each queue entry, or None.

    Returns:
        ``(B, K)`` booleans; None when the images are not numbered.

    Raises:
        ValueError: on an empty queue, widths that differ, one index without the other, indices of the wrong length.
    """
    _checks.embeddings(queue, "queue")
    if queue.shape[1] != query.shape[1]:
        raise ValueError(f"queue holds keys of width {queue.shape[1]}, the query has {query.shape[1]}")
    if query_index is None and queue_index is None:
        return None
    if query_index is None or queue_index is None:
        raise ValueError("query_index and queue_index go together: give both or neither")
    if query_index.shape != query.shape[:1] or queue_index.shape != queue.shape[:1]:
        raise ValueError(
            f"query_index {tuple(query_index.shape)} and queue_index {tuple(queue_index.shape)} must number the "
            f"{len(query)} queries and the {len(queue)} queue entries"
        )
    return query_index[:, None] == queue_index[None, :]

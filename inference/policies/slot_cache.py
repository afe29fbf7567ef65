"""A key-value cache made of slots, so that rows of different length decode in one batch.

`transformers` asks a cache layer to append the new keys and values and to return all of them. `SlotLayer`
writes each row at that row's own position and returns a view over the slots in use; which positions a row
may look at is said by the attention mask. No row is padded on the left and none is copied when another
one ends: the last row moves into the free slot.
"""

import torch
from transformers.cache_utils import Cache, CacheLayerMixin


class Occupancy:
    """What all layers share: how many slots are in use and how long each one is."""

    def __init__(self, slots: int, device: torch.device) -> None:
        self.rows = 0
        self.width = 0
        self.lengths = torch.zeros(slots, dtype=torch.long, device=device)
        self.index = torch.arange(slots, device=device)


class SlotLayer(CacheLayerMixin):  # type: ignore[no-untyped-call]
    """Keys and values of one layer, `[slots, heads, capacity, size]`; grown by doubling."""

    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self, occupancy: Occupancy) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.occupancy = occupancy

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        slots = self.occupancy.lengths.shape[0]
        _, heads, _, size = key_states.shape
        self.keys = key_states.new_zeros((slots, heads, 64, size))
        self.values = value_states.new_zeros((slots, heads, 64, value_states.shape[-1]))
        self.is_initialized = True

    def reserve(self, capacity: int) -> None:
        """Make room for `capacity` positions in every slot."""
        held = self.keys.shape[2]
        if capacity > held:
            more = max(capacity, 2 * held) - held
            pad = (0, 0, 0, more)
            self.keys = torch.nn.functional.pad(self.keys, pad)
            self.values = torch.nn.functional.pad(self.values, pad)

    def store(self, slots: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Put prefilled states `[rows, heads, length, size]` into the given slots."""
        if not self.is_initialized:
            self.lazy_initialization(keys, values)
        length = keys.shape[2]
        self.reserve(length + 1)
        self.keys[slots, :, :length] = keys
        self.values[slots, :, :length] = values

    def move(self, source: int, target: int, length: int) -> None:
        """Copy one slot over another."""
        self.keys[target, :, :length] = self.keys[source, :, :length]
        self.values[target, :, :length] = self.values[source, :, :length]

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append one position to every row in use; return the states of those rows."""
        now = self.occupancy
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self.reserve(now.width)
        rows, at = now.index[: now.rows], now.lengths[: now.rows]
        self.keys[rows, :, at] = key_states[:, :, 0]
        self.values[rows, :, at] = value_states[:, :, 0]
        return self.keys[: now.rows, :, : now.width], self.values[: now.rows, :, : now.width]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.occupancy.width, 0

    def get_seq_length(self) -> int:
        return self.occupancy.width - 1

    def get_max_length(self) -> int:
        return -1


class SlotCache(Cache):
    """The slots of all layers."""

    def __init__(self, layers: int, slots: int, device: torch.device) -> None:
        self.occupancy = Occupancy(slots, device)
        self.slot_layers = [SlotLayer(self.occupancy) for _ in range(layers)]
        super().__init__(layers=list(self.slot_layers))

    def admit(self, states: list[tuple[torch.Tensor, torch.Tensor]], length: int, n: int) -> None:
        """Give one prefilled prompt (keys and values `[1, heads, length, size]` a layer) to n new rows."""
        now = self.occupancy
        slots = now.index[now.rows : now.rows + n]
        for layer, (keys, values) in zip(self.slot_layers, states, strict=True):
            layer.store(slots, keys, values)
        now.lengths[slots] = length
        now.rows += n

    def release(self, row: int) -> None:
        """Free a row; the last row takes its place."""
        now = self.occupancy
        last = now.rows - 1
        if row != last:
            length = int(now.lengths[last])
            for layer in self.slot_layers:
                layer.move(last, row, length)
            now.lengths[row] = length
        now.rows = last

"""Walks the positions of a batch in chunks: logits of a few rows at a time, in buffers that are
reused by the next chunk and, on Linux, by the next batch."""

import ctypes
import math
import mmap
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from trainers.losses.context import LossInputs
from trainers.signal import OutputHead, TeacherSignal
from trainers.top_k import TopKHead

# Larger chunks read and write the weight's gradient less often; their two buffers must stay far
# smaller than the logits of a batch.
MIN_CHUNK_ROWS = 128
CHUNK_ELEMENTS = 1 << 25
GPU_CHUNK_ELEMENTS = 1 << 26
# Elementwise work is done on a block of rows that stays in a CPU's cache, large enough that the
# calls themselves, up to 0.5 ms a block, do not show; a GPU wants more rows.
BLOCK_ELEMENTS = 7 << 16
GPU_BLOCK_ELEMENTS = 1 << 24
# Matrix products are up to a third faster where rows start on cache lines, which those of a
# vocabulary of 50,257 entries do not by themselves. A GPU multiplies four times as fast where the
# dimensions, too, are such multiples.
ALIGNED_ELEMENTS = 64
# And products are a tenth faster where the part of the matrix that is read stays in a CPU's cache.
VOCAB_PART = 512
HUGE_PAGE_BYTES = 2 << 20
# From this size on the C library returns freed memory to the system (see
# `numerics.keep_freed_memory`); smaller buffers it keeps by itself.
LARGE_BYTES = 32 << 20
# Buffers that no batch uses now, by dtype; the one given back last is lent first. Not locked: one
# thread of a process computes losses, and a pop takes a buffer off the list before it is used.
_spare: dict[torch.dtype, list[Tensor]] = {}


@dataclass(frozen=True)
class Chunk:
    """Positions start to stop: hidden [C, D] in the compute dtype, products `hidden @ weight.T +
    bias` [C, V] (before scale and cap) and the teacher's logits [C, V] or None. Both are views of
    buffers: the next chunk overwrites them, and their rows may be further apart than V. `padded` is
    products with a column, of zeros, for each row of zeros of `weight`."""

    start: int
    stop: int
    hidden: Tensor
    padded: Tensor
    products: Tensor
    teacher_logits: Tensor | None


def compute_dtype(tensor: Tensor) -> torch.dtype:
    """Returns the dtype of matrix products: autocast's where it is on, else the tensor's own."""
    device = tensor.device.type
    if tensor.dtype != torch.float64 and torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return tensor.dtype


def walk(batch: LossInputs, weight: Tensor) -> Iterator[Chunk]:
    """Yields the batch's chunks in order; each is overwritten by the next. No gradient is recorded.

    weight: what `product_weight` returns of the batch.
    """
    hidden, vocab_size = batch.hidden.detach(), batch.head.vocab_size
    num_rows = hidden.shape[0]
    size = chunk_rows(num_rows, weight if batch.signal is None else _by_entry(batch.signal))
    # Closed when the walk ends, breaks off or is given up: then the buffers go back.
    with ExitStack() as loans:
        student = _Linear(weight, batch.head.bias, loans.enter_context(lend_buffer(weight, size)))
        teacher = None if batch.signal is None else _teacher(batch.signal, size, loans)
        for start in range(0, num_rows, max(1, size)):
            stop = min(start + size, num_rows)
            rows = hidden[start:stop].to(weight.dtype)
            padded = student.products(rows)
            products = padded[:, :vocab_size]
            logits = None if teacher is None else teacher.logits(start, stop)
            yield Chunk(start, stop, rows, padded, products, logits)


def product_weight(batch: LossInputs) -> Tensor:
    """Returns the student's output matrix in the dtype of its matrix products, cut from the
    graph; on a GPU padded with rows of zeros up to a multiple of ALIGNED_ELEMENTS."""
    return pad(batch.head.weight.detach().to(compute_dtype(batch.hidden)))


def chunk_rows(num_rows: int, weight: Tensor) -> int:
    """Returns the number of rows of a chunk of products with `weight` [V, D], nearly the same in
    all chunks of a batch."""
    elements = GPU_CHUNK_ELEMENTS if weight.is_cuda else CHUNK_ELEMENTS
    most = max(MIN_CHUNK_ROWS, elements // max(1, weight.shape[0]))
    num_chunks = max(1, math.ceil(num_rows / most))
    return math.ceil(num_rows / num_chunks)


def pads(weight: Tensor) -> bool:
    """Returns whether the speed of a product depends on its dimensions."""
    return weight.is_cuda


def pad(weight: Tensor) -> Tensor:
    """Returns the output matrix, with rows of zeros appended where that makes products faster."""
    missing = -weight.shape[0] % ALIGNED_ELEMENTS
    if missing == 0 or not pads(weight):
        return weight
    return torch.nn.functional.pad(weight, (0, 0, 0, missing))


def aligned_buffer(weight: Tensor, num_rows: int) -> Tensor:
    """Returns an uninitialised tensor [num_rows, V] for products with `weight` [V, D], in its
    dtype, whose rows start on cache lines."""
    return _cut(_empty(weight, num_rows), weight, num_rows)


@contextmanager
def lend_buffer(weight: Tensor, num_rows: int) -> Iterator[Tensor]:
    """Lends an `aligned_buffer`; on Linux, a large one that an earlier batch has given back. A
    fresh one is zeroed by the system first, which takes up to a tenth as long as all products.
    While it is not lent, the system may take its memory whenever it needs some."""
    num_elements = num_rows * _aligned(weight.shape[0])
    if not _is_advised(weight) or num_elements * weight.element_size() < LARGE_BYTES:
        yield aligned_buffer(weight, num_rows)
        return
    spare = _spare.setdefault(weight.dtype, [])
    whole = spare.pop() if spare else _empty(weight, num_rows)
    if whole.numel() < num_elements:  # the smaller one is dropped, so that few are ever kept
        whole = _empty(weight, num_rows)
    try:
        yield _cut(whole, weight, num_rows)
    finally:
        # Pages that the system takes read as zeros afterwards: every product is written before it
        # is read, so what was in them does not matter.
        _advise(whole, mmap.MADV_FREE)
        spare.append(whole)


def _empty(weight: Tensor, num_rows: int) -> Tensor:
    """Returns as many elements as the rows take. Linux is asked to hold them in pages of 2 MiB, of
    which products look up fewer; worth it for memory that is kept, because providing one can take
    longer than 512 small ones."""
    # A tensor made in inference mode could not be written to by a later training step.
    with torch.inference_mode(False):
        made = weight.new_empty(num_rows * _aligned(weight.shape[0]))
    if _is_advised(made) and made.nbytes >= HUGE_PAGE_BYTES:
        _advise(made, mmap.MADV_HUGEPAGE)
    return made


def _aligned(vocab_size: int) -> int:
    return math.ceil(vocab_size / ALIGNED_ELEMENTS) * ALIGNED_ELEMENTS


def _cut(whole: Tensor, weight: Tensor, num_rows: int) -> Tensor:
    """Returns a view [num_rows, V] of the beginning of `whole`, which is at least as large, for
    products with `weight` [V, D]."""
    width = _aligned(weight.shape[0])
    return whole[: num_rows * width].view(num_rows, width)[:, : weight.shape[0]]


def _is_advised(tensor: Tensor) -> bool:
    """Whether the system that holds the tensor takes advice about its memory."""
    return sys.platform == "linux" and tensor.device.type == "cpu"


def _advise(tensor: Tensor, advice: int) -> None:
    storage = tensor.untyped_storage()
    # The system takes whole pages: those that lie entirely in the storage, as others share theirs.
    skipped = -storage.data_ptr() % mmap.PAGESIZE
    length = (storage.nbytes() - skipped) // mmap.PAGESIZE * mmap.PAGESIZE
    if length > 0:
        start = ctypes.c_void_p(storage.data_ptr() + skipped)
        # What it returns does not matter: refused advice leaves everything as it was.
        ctypes.CDLL(None).madvise(start, ctypes.c_size_t(length), advice)


def blocks(chunk: Chunk) -> Iterator[tuple[int, int]]:
    """Yields the row ranges within a chunk that elementwise work takes at once."""
    num_rows, width = chunk.products.shape
    if chunk.teacher_logits is not None:
        width = chunk.teacher_logits.shape[1]
    elements = GPU_BLOCK_ELEMENTS if chunk.products.is_cuda else BLOCK_ELEMENTS
    size = max(1, elements // max(1, width))
    for start in range(0, num_rows, size):
        yield start, min(start + size, num_rows)


def without_student(batch: LossInputs) -> LossInputs:
    """Returns the batch with an output matrix of no rows, so that a walk computes the teacher's
    logits alone."""
    return replace(batch, head=OutputHead(batch.head.weight[:0]))


class _Linear:
    """`rows @ weight.T + bias` of at most as many rows at a time as its buffer has."""

    def __init__(self, weight: Tensor, bias: Tensor | None, buffer: Tensor) -> None:
        self.weight = weight
        self.buffer = buffer
        self.bias = None
        if bias is not None:
            missing = weight.shape[0] - bias.shape[0]
            self.bias = torch.nn.functional.pad(bias.detach().to(weight.dtype), (0, missing))

    def products(self, rows: Tensor) -> Tensor:
        return linear(rows, self.weight, self.bias, self.buffer[: rows.shape[0]])


def _by_entry(signal: TeacherSignal) -> Tensor:
    """What the teacher's head has for each entry of the vocabulary: [V, D] or [V]."""
    head = signal.head
    return head.shape if isinstance(head, TopKHead) else head.weight


def _teacher(signal: TeacherSignal, size: int, loans: ExitStack) -> "_Teacher | _TopKTeacher":
    if isinstance(signal.head, TopKHead):
        return _TopKTeacher(signal.hidden, signal.head, size, loans)
    return _Teacher(signal.hidden, signal.head, size, loans)


class _TopKTeacher:
    """The teacher's logits chunk by chunk, made of packed rows, in float32."""

    def __init__(self, rows: Tensor, head: TopKHead, size: int, loans: ExitStack) -> None:
        self.rows, self.head = rows, head
        self.buffer = loans.enter_context(lend_buffer(head.shape, size))

    def logits(self, start: int, stop: int) -> Tensor:
        return self.head.logits(self.rows[start:stop], out=self.buffer[: stop - start])


class _Teacher:
    """The teacher's logits chunk by chunk, in a buffer that is given back with `loans`."""

    def __init__(self, hidden: Tensor, head: OutputHead, size: int, loans: ExitStack) -> None:
        self.hidden, self.head = hidden, head
        # The teacher's own dtype, whatever the student computes in.
        weight = pad(head.weight.detach())
        buffer = loans.enter_context(lend_buffer(weight, size))
        self.linear = _Linear(weight, head.bias, buffer)

    def logits(self, start: int, stop: int) -> Tensor:
        rows = self.hidden[start:stop].detach().to(self.linear.weight.dtype)
        products = self.linear.products(rows)[:, : self.head.vocab_size]
        return self.head.of_products(products)


def linear(rows: Tensor, weight: Tensor, bias: Tensor | None, buffer: Tensor) -> Tensor:
    """Returns rows @ weight.T + bias in the buffer; on a CPU a part of the vocabulary at a time."""
    # Each entry is a sum over D alone, so that parts of V are independent of each other.
    vocab_size = weight.shape[0]
    width = vocab_size if buffer.is_cuda else VOCAB_PART
    for start in range(0, vocab_size, max(1, width)):
        part, out = weight[start : start + width].t(), buffer[:, start : start + width]
        if bias is None:
            torch.mm(rows, part, out=out)
        else:
            torch.addmm(bias[start : start + width], rows, part, out=out)
    return buffer

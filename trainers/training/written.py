"""Steps on text that the student writes while it trains, among steps on prepared data."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainers.batch_source import Step, Writer
from trainers.parts import Batch
from trainers.responses import SampleKey
from trainers.sampled import Sample
from trainers.training.feed import Feed, share
from trainers.training.samples import packed, unpacked
from trainers.training.shares import Kind, Shares
from trainers.trial.fields import Text
from trainers.trial.text_fields import MOST_SAMPLES, ShareOf, ShareSchedule

# Which of a step's numbers are drawn; `shares.COIN` is another.
REPLAY = 2


@dataclass
class WritingSource:
    """The steps of a training whose student writes some of the text; see
    `trainers.batch_source.BatchSource`. feed: the steps on prepared data; gathered: a context in
    which the writer has the present weights, entered by all workers. What it keeps, samples to
    replay (the last ones) and those that were written ahead, by step, is the same on every
    worker."""

    feed: Feed
    writer: Writer
    shares: Shares
    gathered: Callable[[], AbstractContextManager[None]] = nullcontext
    _kept: deque[Sample] = field(default_factory=deque)
    _ahead: dict[int, dict[SampleKey, Sample]] = field(default_factory=dict)

    @property
    def needs_first_evaluation(self) -> bool:
        """Whether the share moves by how the validation loss has grown."""
        return self._text.share_schedule == ShareSchedule.ADAPTIVE

    def evaluated(self, metrics: Mapping[str, float]) -> None:
        """Moves the adaptive share."""
        self.shares.evaluated(metrics["cross_entropy"])

    def state_dict(self) -> dict[str, Any]:
        """Returns all that the next steps depend on, as tensors and plain values."""
        return {
            "reached": self.shares.reached,
            "reference": self.shares.reference,
            "kept": packed(self._kept),
            "ahead": {
                step: {
                    "numbers": [number for _, number in written],
                    "samples": packed([*written.values()]),
                }
                for step, written in self._ahead.items()
            },
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from what `state_dict` returned."""
        self.shares.reached, self.shares.reference = state["reached"], state["reference"]
        self._kept = deque(unpacked(state["kept"]))
        self._ahead = {
            step: {
                (sample.example, number): sample
                for number, sample in zip(
                    written["numbers"], unpacked(written["samples"]), strict=True
                )
            }
            for step, written in state["ahead"].items()
        }

    def steps(self, start: int, stop: int) -> AbstractContextManager[Iterator[Step]]:
        """Returns the steps, each made when it is asked for: its text needs the weights of then."""
        return nullcontext(self.step(number) for number in range(start, stop))

    def step(self, number: int) -> Step:
        """Returns step `number` (0-based), made now. Its samples are in batches of their own,
        behind those of prepared data: they have other losses."""
        examples = self.feed.order.examples(number)
        kinds = self._kinds(number)
        if (kinds == Kind.DATA).all():
            return self.feed.step(number)
        began = time.perf_counter()
        fresh = self._fresh(number)
        samples = [*fresh, *self._replayed(number, int((kinds == Kind.REPLAYED).sum()))]
        self._keep(fresh)
        write_s = time.perf_counter() - began
        is_paired = self._text.share_of == ShareOf.PAIRS
        of_data = examples if is_paired else examples[kinds == Kind.DATA]
        prepared = self.feed.batches(of_data) if len(of_data) else []
        return Step(
            number=number,
            batches=[*prepared, *self._batches(samples)],
            num_positions=self.feed.split.num_positions(of_data)
            + sum(len(sample.response.ids) for sample in samples),
            write_s=write_s,
        )

    @property
    def _text(self) -> Text:
        return self.shares.text

    def _kinds(self, number: int) -> NDArray[np.int64]:
        is_full = 0 < self._text.buffer_size <= len(self._kept)
        return self.shares.kinds(number, len(self.feed.order.examples(number)), is_full=is_full)

    def _fresh(self, number: int) -> list[Sample]:
        """What the student has written for the step: now, or before, where it writes for several
        steps at once."""
        asked = self._asked(number)
        if any(key not in self._ahead.get(number, {}) for key in asked):
            self._write(number)
        written = self._ahead.pop(number, {})
        self._ahead = {step: kept for step, kept in self._ahead.items() if step > number}
        return [written[key] for key in asked]

    def _asked(self, number: int) -> list[SampleKey]:
        """The samples that the student is to write for a step, by the shares of now. Each has a
        number of its own in the training: the luck of a prompt is another one in each step."""
        examples = self.feed.order.examples(number)[self._kinds(number) == Kind.FRESH]
        return [
            (example, number * MOST_SAMPLES + sample)
            for example in examples.tolist()
            for sample in range(self._text.samples_per_prompt)
        ]

    def _write(self, number: int) -> None:
        """Writes for the step, and for those after it before the next refresh. Each worker writes
        its part and gets the others': how long they are is known only now, and the loss is a mean
        over all."""
        window = number - number % self._text.refresh + self._text.refresh
        steps = range(number, min(window, self.shares.num_steps))
        asked = [(step, key) for step in steps for key in self._asked(step)]
        world = self.feed.world
        with self.gathered():
            mine = self.writer.write([key for _, key in asked[world.rank :: world.size]])
        for rank, samples in enumerate(world.gathered(mine)):
            for (step, key), sample in zip(asked[rank :: world.size], samples, strict=True):
                self._ahead.setdefault(step, {})[key] = sample

    def _replayed(self, number: int, count: int) -> list[Sample]:
        """As many samples for each of `count` prompts as are written to one, drawn from those that
        are kept, none twice."""
        random = np.random.Generator(np.random.PCG64([self.shares.seed, number, REPLAY]))
        num = count * self._text.samples_per_prompt
        return [self._kept[i] for i in random.choice(len(self._kept), num, replace=False)]

    def _keep(self, samples: Sequence[Sample]) -> None:
        self._kept.extend(samples)
        while len(self._kept) > self._text.buffer_size:
            self._kept.popleft()

    def _batches(self, samples: list[Sample]) -> list[Batch]:
        world = self.feed.world
        places = share(
            np.arange(len(samples)), rank=world.rank, world_size=world.size, parts=self.feed.parts
        )
        return [self.writer.collate([samples[i] for i in part.tolist()]) for part in places]

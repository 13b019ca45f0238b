"""Writes the text that students learn from, to the prompts of the training data."""

from collections.abc import Sequence
from dataclasses import dataclass

from trainers.responses import SampleKey, Sampler
from trainers.sampled import Author, Sample
from trainers.tasks.causal_lm import batches
from trainers.tasks.causal_lm.batches import TokenBatch
from trainers.tasks.causal_lm.data import TokenSplit


@dataclass(frozen=True)
class TextWriter:
    """Has `sampler` answer prompts of `split`; seed: the trial's, or another that belongs to who
    writes. See `trainers.batch_source.Writer`."""

    split: TokenSplit
    sampler: Sampler
    author: Author
    seed: tuple[int, ...]

    def write(self, asked: Sequence[SampleKey]) -> list[Sample]:
        """Returns a sample for each example and number."""
        prompts = {key: self.split.prompt(key[0]).tolist() for key in asked}
        found = self.sampler.sample(prompts, seed=self.seed)
        return [Sample(key[0], found[key], self.author) for key in asked]

    def collate(self, samples: Sequence[Sample]) -> TokenBatch:
        """Returns the batch of `samples`."""
        prompts = [self.split.prompt(sample.example) for sample in samples]
        return batches.collate_samples(
            self.split.name, samples, prompts, pad_token_id=self.split.pad_token_id
        )

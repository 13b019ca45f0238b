"""Which of the training examples trials learn from, where they are to learn from fewer than the
teacher did; no torch."""

from dataclasses import dataclass

from trainers.trial.fields import SubsetFields


@dataclass(frozen=True)
class Subset:
    """So many of the training examples, drawn by a seed."""

    num_examples: int
    seed: int

    @classmethod
    def of(cls, config: SubsetFields) -> "Subset | None":
        """Returns the subset that `config` asks for; None for all examples."""
        if config.student_examples is None:
            return None
        return cls(config.student_examples, config.subset_seed)

    def check(self, num_examples: int, num_classes: int = 1) -> None:
        """Raises `ValueError` unless `num_examples` are enough to draw from, and each of
        `num_classes` that they belong to can have one."""
        if self.num_examples > num_examples:
            raise ValueError(
                f"data.student_examples: it must be at most the {num_examples} training examples "
                f"that there are, but got {self.num_examples}. Lower it, or leave it out: then "
                "trials learn from all."
            )
        if self.num_examples < num_classes:
            raise ValueError(
                f"data.student_examples: it must be at least {num_classes}, one example for each "
                f"class, but got {self.num_examples}. Raise it."
            )

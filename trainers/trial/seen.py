"""What trials see of the data that was prepared once for all of them; no torch."""

from dataclasses import dataclass

from trainers.trial.fields import Augmentation, Data
from trainers.trial.subset import Subset


@dataclass(frozen=True)
class Seen:
    """subset: of the training examples, None for all; second_view, regions: the fields of the same
    names."""

    subset: Subset | None = None
    second_view: Augmentation = Augmentation.NONE
    regions: int = 1

    @classmethod
    def by(cls, config: Data) -> "Seen":
        """Returns what trials with that `config` see."""
        return cls(Subset.of(config), config.second_view, config.regions)

    @property
    def num_rows(self) -> int:
        """Views of an image that are beside each other."""
        return 1 if self.second_view == Augmentation.NONE else 2

    @property
    def num_logits(self) -> int:
        """How many times the logits of all classes an image has: its own, and those of each cell of
        its regions' grid."""
        return 1 if self.regions == 1 else 1 + self.regions**2


ALL = Seen()

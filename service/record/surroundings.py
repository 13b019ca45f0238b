"""What a trial ran in: in its `trial.json`; of earlier versions, in the tags of its run. Pure."""

import json

from service.record.tags import FINGERPRINT, PREFIX, PROVENANCE
from trainers.trial.trial_file import TrialFile


def surroundings(trial: TrialFile) -> dict[str, str]:
    """Returns what `trial` says of code, machine, libraries and inputs, under the names of the tags
    that held it, which have the sweep's prefix left out."""
    own = PROVENANCE.removeprefix(PREFIX)
    found = {own + name: fact for name, fact in trial.provenance.items()}
    found |= {FINGERPRINT.removeprefix(PREFIX) + k: v for k, v in trial.fingerprints.items()}
    found |= {
        "world_size": str(trial.world_size),
        "sharding": str(trial.sharding),
        "teacher_source": trial.teacher_source,
        "versions": json.dumps(trial.versions),
        "numerics": json.dumps(trial.numerics),
    }
    version = found.pop(f"{own}code_version", None)
    return found if version is None else found | {"code_version": version}

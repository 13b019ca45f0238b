"""Folders named by what decides their content, so that whoever wants the same content finds it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainers.files import fingerprints

# Raise it when tokenised data, tokenizers or fitted models come out differently for the same
# request.
FORMAT = 4
SHORT = 20
PREPARED = "prepared"


def keyed_folder(home: Path, kind: str, document: Mapping[str, Any]) -> Path:
    """Returns the folder under `home/prepared` for the thing of `kind` that `document` decides."""
    key = fingerprints.of_document({"format": FORMAT, **document})
    return home / PREPARED / kind / key[:SHORT]

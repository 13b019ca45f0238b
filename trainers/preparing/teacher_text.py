"""The teacher's text to the training prompts, in place of the data's responses: written once, in
parts that outlive a process that dies."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from trainers import numerics
from trainers.batch_source import Writer, WritesText
from trainers.files import store
from trainers.files.json_files import read_object
from trainers.parts import Data
from trainers.preparing.keys import teacher_dtype
from trainers.responses import Response, SampleKey
from trainers.sampled import Author, Sample
from trainers.trial.fields import Precision
from trainers.trial.sources import PrepareRequest, TeacherText

# Responses that are stored together: as many are lost where the process dies.
PART = 256
PART_FIELDS = {"ids": list, "ended": list}


@dataclass(frozen=True)
class TeacherWriting:
    """How the text that is `asked` for in a request is written by its prepared `teacher`, to the
    prompts of its prepared `data`; progress: called with the share that is done."""

    asked: TeacherText
    request: PrepareRequest
    runtime: WritesText
    teacher: Path
    data: Path
    progress: Callable[[float], None]

    def write(self, folder: Path) -> Path:
        """Returns `folder` with the data whose training split is the teacher's text, written if it
        is not there yet. It goes on where a process has died."""
        # Named as `store.once` names what it makes, so that pruning finds what nobody finishes.
        parts = folder.with_name(f".{folder.name}.parts")

        def make(temporary: Path) -> None:
            self.runtime.write_responses(self.data, self._samples(parts), temporary)

        store.once(folder, make)
        shutil.rmtree(parts, ignore_errors=True)
        return folder

    def _samples(self, parts: Path) -> list[Sample]:
        """All of the text in the order of the prompts, each part read or written."""
        parts.mkdir(parents=True, exist_ok=True)
        numbers = range(self.asked.samples_per_prompt)
        prompts = range(len(self._opened.splits["train"]))
        keys = [(prompt, number) for prompt in prompts for number in numbers]
        found: list[Sample] = []
        for start in range(0, len(keys), PART):
            self.progress(start / len(keys))
            part = keys[start : start + PART]
            path = parts / f"{start}-{start + len(part)}.json"
            if not path.is_file():
                _store(self._writer.write(part), path)
            found += _stored(part, path)
        self.progress(1.0)
        return found

    @cached_property
    def _opened(self) -> Data:
        return self.runtime.open_data(self.data, trust=self.request.trusts("tokenizer"))

    @cached_property
    def _writer(self) -> Writer:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        # One thread, as for a fit: text that is written again on another machine must be the same.
        resolved = numerics.resolve(device, Precision.AUTO, 1)
        numerics.apply(resolved)
        model = self.runtime.load_model(
            self.teacher,
            torch.device(device),
            attention=None,
            dtype=numerics.weights_dtype(resolved, teacher_dtype(self.request, self.teacher)),
            trust=self.request.trusts("teacher"),
        )
        self.runtime.check_model(model, self._opened)
        return self.runtime.teacher_writer(
            self.asked,
            self._opened,
            teacher=self.runtime.network(model, self._opened.num_classes),
            max_tokens=self.asked.longest(self.request),
            numerics=resolved,
        )


def _store(samples: list[Sample], path: Path) -> None:
    found = [sample.response for sample in samples]
    content = {"ids": [one.ids for one in found], "ended": [one.ended for one in found]}
    store.write_text(path, json.dumps(content))


def _stored(keys: list[SampleKey], path: Path) -> list[Sample]:
    content = read_object(path, PART_FIELDS)
    return [
        # how likely a token was matters to no loss on prepared data
        Sample(prompt, Response(ids, [], ended), Author.TEACHER)
        for (prompt, _), ids, ended in zip(keys, content["ids"], content["ended"], strict=True)
    ]

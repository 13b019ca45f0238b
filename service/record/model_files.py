"""What stands beside a student's weights so that it is a model of MLflow: the file MLmodel (flavour
`transformers`), what it needs to be served, and a card that says how it was made.

`mlflow.transformers.save_model` writes the same, but loads the model once more and takes seconds.
"""

import json
import platform
import shutil
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from service.record.entries import ModelFacts
from service.record.model_card import RecordedRun, card
from trainers.students.folders import architecture_of, is_adapter

CARD = "README.md"  # where Hugging Face's hub and MLflow's pages show it
ENVIRONMENT, REQUIREMENTS, MODEL = "python_env.yaml", "requirements.txt", "MLmodel"
OURS = {CARD, ENVIRONMENT, REQUIREMENTS, MODEL, "generation_config.json"}
# What stands before a model, by the file of its settings: MLflow's name of it, and the class that
# reads it whatever it is.
COMPONENTS = {
    "tokenizer_config.json": ("tokenizer", "AutoTokenizer"),
    "preprocessor_config.json": ("image_processor", "AutoImageProcessor"),
}
PACKAGES = ("torch", "transformers", "safetensors")


def write_model_files(
    folder: Path, run: RecordedRun, facts: ModelFacts, model_id: str | None
) -> None:
    """Makes the Hugging Face folder a model of MLflow; once more changes nothing but times. The
    weights stay where they are: MLflow is told that they lie beside its own file. model_id: of the
    logged model, None for a run's artifacts."""
    for component in _components(folder):
        _copy_component(folder, component)
    (folder / CARD).write_text(card(run, facts, is_adapter=is_adapter(folder)))
    needed = (*requirements(), f"peft=={version('peft')}") if is_adapter(folder) else requirements()
    (folder / REQUIREMENTS).write_text("".join(f"{line}\n" for line in needed))
    environment = {
        "python": platform.python_version(),
        "build_dependencies": ["pip", "setuptools", "wheel"],
        "dependencies": [f"-r {REQUIREMENTS}"],
    }
    (folder / ENVIRONMENT).write_text(yaml.safe_dump(environment, sort_keys=False))
    _mlmodel(folder, run, facts, model_id).save(str(folder / MODEL))


@cache
def requirements() -> tuple[str, ...]:
    """Returns what using the model takes, each at the version that it was made with."""
    return tuple(f"{name}=={version(name)}" for name in ("mlflow", *PACKAGES))


def _components(folder: Path) -> dict[str, str]:
    """Returns MLflow's names of what stands before the model, each with its class. MLflow runs code
    that one brings along only where its class is named."""
    found = {}
    for name, (component, usual) in COMPONENTS.items():
        if (folder / name).is_file():
            settings = json.loads((folder / name).read_text())
            own = settings.get(f"{component}_class") if "auto_map" in settings else None
            found[component] = str(own or usual)
    return found


def _copy_component(folder: Path, component: str) -> None:
    """MLflow reads it from a folder of its own: everything but the weights, which is small."""
    target = folder / "components" / component
    target.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if path.is_file() and path.name not in OURS and ".safetensors" not in path.name:
            shutil.copyfile(path, target / path.name)


def _mlmodel(folder: Path, run: RecordedRun, facts: ModelFacts, model_id: str | None) -> Any:
    from mlflow.models import Model

    components = _components(folder)
    config = {} if is_adapter(folder) else json.loads((folder / "config.json").read_text())
    own = {} if model_id is None else {"model_id": model_id, "model_uuid": model_id}
    model = Model(run_id=run.run_id, **own)
    model.add_flavor(
        "transformers",
        transformers_version=version("transformers"),
        code=None,
        task=facts.pipeline,
        pipeline_model_type=architecture_of(folder) or "AutoModel",
        torch_dtype=f"torch.{config.get('dtype') or 'float32'}",
        source_model_name=facts.made_from.get("student", ""),
        model_binary=".",
        components=list(components),
        **{f"{name}_type": kind for name, kind in components.items()},
    )
    # MLflow serves models of texts alone.
    if "tokenizer" in components:
        _serve(model, facts)
    model.model_size_bytes = sum(one.stat().st_size for one in folder.rglob("*") if one.is_file())
    return model


def _serve(model: Any, facts: ModelFacts) -> None:
    """Adds the flavour of whoever asks a model by a text and wants the answer alone."""
    from mlflow.models.signature import ModelSignature
    from mlflow.types.schema import ColSpec, Schema

    text = Schema([ColSpec("string")])
    model.signature = ModelSignature(inputs=text, outputs=text)
    if facts.prompt_template is not None:
        model.metadata = {"prompt_template": facts.prompt_template}
    # What `mlflow.pyfunc.add_to_model` writes; importing that warns of other people's type hints.
    model.add_flavor(
        "python_function",
        loader_module="mlflow.transformers",
        python_version=platform.python_version(),
        env={"virtualenv": ENVIRONMENT},
        config={"return_full_text": False},
    )

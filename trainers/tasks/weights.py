"""Which files of a model's folder will be loaded, and whether they are all there and complete; no
torch."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from trainers.files.model_files import INDEX, SINGLE, read_header, weight_map
from trainers.students.folders import CONFIG

PICKLED, PICKLED_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
PICKLES = ("pytorch_model*.bin", "*.pt", "*.pth")
# By a config's quantization_config.quant_method: the modules that loading such weights needs.
QUANTISERS: Mapping[str, tuple[str, ...]] = {
    "aqlm": ("aqlm", "accelerate"),
    "auto-round": ("auto_round",),
    "awq": ("gptqmodel", "accelerate"),
    "bitnet": ("accelerate",),
    "bitsandbytes": ("bitsandbytes", "accelerate"),
    "compressed-tensors": ("compressed_tensors",),
    "eetq": ("kernels", "accelerate"),
    "fbgemm_fp8": ("fbgemm_gpu", "accelerate"),
    "fp8": ("accelerate",),
    "fp_quant": ("fp_quant",),
    "gptq": ("gptqmodel", "optimum"),
    "higgs": ("flute", "accelerate"),
    "hqq": ("hqq",),
    "mxfp4": ("kernels", "accelerate"),
    "quanto": ("optimum.quanto", "accelerate"),
    "quark": ("quark",),
    "spqr": ("spqr_quant", "accelerate"),
    "torchao": ("torchao",),
    "vptq": ("vptq", "accelerate"),
}


def check_no_adapter(folder: Path, place: str) -> None:
    """Raises `ValueError` for a PEFT adapter where a whole model has to be: an adapter's base, or
    weights beside which it would not be clear what is meant."""
    if (folder / CONFIG).is_file():
        raise ValueError(
            f"{place}: it must be a whole model, or an adapter alone, but {folder} has {CONFIG} "
            "where a whole model is looked for. Merge it (PEFT's merge_and_unload) and save the "
            "model, or delete that file if the weights beside it are to be used without it."
        )


def check_quantiser(config: Mapping[str, Any], place: str) -> None:
    """Raises `ValueError` when a config's weights are quantised by what is not installed here."""
    given = config.get("quantization_config")
    if not isinstance(given, Mapping):
        return
    method = str(given.get("quant_method") or "bitsandbytes").lower()
    if method not in QUANTISERS:
        raise ValueError(
            f"{place}: its weights must be plain or quantised by one of {', '.join(QUANTISERS)}, "
            f"but got quant_method '{method}'. Use the model that was not quantised."
        )
    missing = [name for name in QUANTISERS[method] if not _is_installed(name)]
    if missing:
        raise ValueError(
            f"{place}: its weights are quantised by {method}, which needs {' and '.join(missing)}, "
            "but that is not installed here. Install it, or use the model that was not quantised."
        )


def check_weights(folder: Path, place: str, *, allow_pickle: bool) -> None:
    """Raises `ValueError` unless every file that will be loaded is there and complete. The headers
    of safetensors are read, no weights."""
    if _check_safetensors(folder, place):
        return
    pickled = [path.name for pattern in PICKLES for path in sorted(folder.glob(pattern))]
    if not pickled:
        raise ValueError(
            f"{place}: folder {folder} is not a model: {SINGLE} is missing. "
            "Name a folder that save_pretrained wrote."
        )
    if not allow_pickle:
        raise ValueError(
            f"{place}: weights must be safetensors, but got {pickled[0]} in {folder}, which can "
            "run code when it is opened. Convert it, or set allow_pickle: true if you trust it."
        )
    if (folder / PICKLED).is_file():
        return
    if not (folder / PICKLED_INDEX).is_file():
        raise ValueError(
            f"{place}: transformers must find {PICKLED} or {PICKLED_INDEX} in {folder}, "
            f"but got {pickled[0]}. Convert it to safetensors."
        )
    _indexed(folder, PICKLED_INDEX, place)


def has_weights(folder: Path) -> bool:
    """Returns whether there are any weights in a folder, complete or not."""
    return any(next(folder.glob(pattern), None) for pattern in ("*.safetensors", PICKLES[0]))


def _check_safetensors(folder: Path, place: str) -> bool:
    """Returns whether there are any; raises `ValueError` when they are not complete."""
    if (folder / SINGLE).is_file():
        _tensors(folder / SINGLE, place)
        return True
    if not (folder / INDEX).is_file():
        return False
    by_file: dict[str, set[str]] = {}
    for tensor, name in _indexed(folder, INDEX, place).items():
        by_file.setdefault(name, set()).add(tensor)
    for name, wanted in sorted(by_file.items()):
        missing = sorted(wanted - _tensors(folder / name, place))
        if missing:
            raise ValueError(
                f"{place}: {folder / name} must hold {missing[0]}, as {INDEX} says, but does not. "
                "Copy or download the folder again."
            )
    return True


def _indexed(folder: Path, index: str, place: str) -> dict[str, str]:
    """The files of an index by tensor, all of them there."""
    try:
        found = weight_map(folder / index)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error
    missing = sorted(name for name in set(found.values()) if not (folder / name).is_file())
    if missing or not found:
        lacks = f"{missing[0]} of {len(set(found.values()))} files is" if missing else "all are"
        raise ValueError(
            f"{place}: folder {folder} is not complete: {lacks} missing, as {index} says. "
            "Copy or download it again."
        )
    return found


def _tensors(path: Path, place: str) -> set[str]:
    """The names of the tensors in a file, which is as long as its header says."""
    size = path.stat().st_size
    try:
        header = read_header(path)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error
    if size != header.size or not header.tensors:
        raise ValueError(
            f"{place}: {path} must have the {header.size} bytes that its header says, but got "
            f"{size}. Copy or download it again."
        )
    return set(header.tensors)


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # a module inside a package that is not there
        return False

"""The sources of the user's own modules: read when a sweep is planned and kept with it, so that its
trials, their reruns and exports train with exactly the loss that was planned."""

import ast
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from service.plan.places import own_modules_folder
from service.provenance import PACKAGES
from trainers.files.fingerprints import of_sources
from trainers.files.store import write_text
from trainers.trial.trial_file import TrialFile

KEPT, INSTALLED = "own_modules", "installed_modules"
INSTALLERS_FOLDERS = {"site-packages", "dist-packages"}
LARGEST_BYTES = 2 * 1024**2


@dataclass(frozen=True)
class OwnModules:
    """Sources by their paths below the folder where Python finds them. `kept` ones travel with the
    sweep; `installed` ones are part of the environment, as torch is."""

    kept: dict[str, str] = field(default_factory=dict)
    installed: dict[str, str] = field(default_factory=dict)

    def fingerprints(self) -> dict[str, str]:
        """Returns the hash of each kind that there is any of."""
        found = {KEPT: self.kept, INSTALLED: self.installed}
        return {name: of_sources(texts) for name, texts in found.items() if texts}


def read_modules(names: Iterable[str]) -> OwnModules:
    """Returns the sources of the importable modules `names`: each one's file, or all `.py` files of
    its outermost package, and likewise those of the modules beside it that it imports.

    Raises `ValueError` for a module without source, and when the kept ones are too large.
    """
    found = OwnModules()
    for name in sorted({name.partition(".")[0] for name in names}):
        root, files = _root_and_files(name)
        into = found.installed if _is_installed(root) else found.kept
        into |= _with_neighbours(root, files)
    size = sum(len(text) for text in found.kept.values())
    if size > LARGEST_BYTES:
        raise ValueError(
            f"own modules: at most {LARGEST_BYTES // 1024**2} MiB of sources can be kept with a "
            f"sweep, but got {size / 1024**2:.1f} MiB in {len(found.kept)} files. Put the "
            "divergence into a module of its own, or install its package."
        )
    return found


def unpack(sources: Mapping[str, str], folder: Path) -> str | None:
    """Writes a plan's own modules, sources by their relative paths, below the sweep's `folder` and
    returns the folder to import them from; None when there are none."""
    if not sources:
        return None
    target = own_modules_folder(folder)
    for name, text in sources.items():
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    return str(target)


def module_not_kept(trial: TrialFile) -> str | None:
    """Returns the module of the trial's own divergence where its source was not kept with it; None
    where it was, or the divergence is a shipped one."""
    module, colon, _ = trial.config.divergence.partition(":")
    return module if colon and trial.paths.own_modules is None else None


def _root_and_files(name: str) -> tuple[Path, list[Path]]:
    """Returns the folder that Python imports the module from, and the module's files."""
    spec = find_spec(name)
    if spec is not None and spec.submodule_search_locations:
        folder = Path(next(iter(spec.submodule_search_locations)))
        return folder.parent, sorted(folder.rglob("*.py"))
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        raise ValueError(
            f"module '{name}' must have a source (.py) that can be kept, but got "
            f"{spec and spec.origin}. Write the divergence in Python."
        )
    return Path(spec.origin).parent, [Path(spec.origin)]


def _is_installed(root: Path) -> bool:
    is_of_python = root.is_relative_to(sysconfig.get_path("stdlib"))
    return is_of_python or bool(INSTALLERS_FOLDERS & set(root.parts))


def _with_neighbours(root: Path, files: list[Path]) -> dict[str, str]:
    """Returns the sources of `files`, and of all that they import from `root`, directly or not, by
    their paths below it."""
    texts: dict[str, str] = {}
    waiting = list(files)
    while waiting:
        path = waiting.pop()
        name = path.relative_to(root).as_posix()
        if name in texts:
            continue
        texts[name] = _text_of(path)
        # Beside an installed module stands every other installed package.
        if not _is_installed(root):
            waiting += [file for top in _imports(texts[name]) for file in _beside(root, top)]
    return texts


def _text_of(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"own modules: {path} must be UTF-8 to be kept with the sweep, but got: {error}. "
            "Save it as UTF-8."
        ) from error


def _imports(text: str) -> set[str]:
    """Returns the outermost names of the modules that a source imports; of a text that is not
    Python, none."""
    try:
        nodes = list(ast.walk(ast.parse(text)))
    except SyntaxError:  # a file of a package that nothing imports: a template, say
        return set()
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [
        node.module
        for node in nodes
        if isinstance(node, ast.ImportFrom) and node.module and not node.level
    ]
    return {name.partition(".")[0] for name in names} - set(PACKAGES)


def _beside(root: Path, name: str) -> Iterator[Path]:
    """Yields the files of the package or module `name` where it is in `root` itself."""
    if (root / name / "__init__.py").is_file():
        yield from (root / name).rglob("*.py")
    elif (root / f"{name}.py").is_file():
        yield root / f"{name}.py"

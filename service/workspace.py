"""Where a user works: the folder of what sweeps make, the record's address, a cluster; or a service
that has all of these. What the environment says about them is read here, once, and travels on as a
value."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from service.errors import JobError, SpecError
from service.home import HOME_VARIABLE, checked_home, home_folder, record_file, sqlite_uri
from trainers.files.urls import holds_secret

TRACKING_VARIABLE = "MLFLOW_TRACKING_URI"
SERVER_VARIABLE, TOKEN_VARIABLE = "KD_SWEEP_SERVER", "KD_SWEEP_TOKEN"
# Ray's own variable counts where a command needs a cluster; it moves nothing there by itself.
ADDRESSES = ("KD_SWEEP_ADDRESS", "RAY_API_SERVER_ADDRESS")
# field of a sweep's storage: the environment variable that stands in for it
STORAGE_VARIABLES = {"path": "KD_SWEEP_STORAGE", "study_url": "KD_SWEEP_STUDY_URL"}
# What a driver on a cluster reads from its environment, handed on when the submitter has it. No
# token: whoever reaches Ray's dashboard sees the environment of every job.
HANDED_ON = (TRACKING_VARIABLE, HOME_VARIABLE, "HF_HUB_OFFLINE")


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster. `address`: URL of its dashboard; `token`: what it asks for, None leaves that
    to the variables that Ray reads itself; `environment`: variables that a driver there gets."""

    address: str
    token: str | None = field(default=None, repr=False)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Workspace:
    """Where sweeps are read, run and recorded.

    home: folder of everything that sweeps make; tracking: MLflow's address, None for a file in
    `home`; folder: where relative paths start from and modules of the user's own are found;
    storage: `path` and `study_url` for sweeps that name none; cluster: where sweeps go on, are
    stopped and planned for, None for this machine.
    """

    home: Path
    tracking: str | None = None
    folder: Path = field(default_factory=Path.cwd)
    storage: Mapping[str, str] = field(default_factory=dict)
    cluster: Cluster | None = None

    def __post_init__(self) -> None:
        # Ray's workers have other working folders, so the paths that they get must be absolute.
        object.__setattr__(self, "home", checked_home(self.home))

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], folder: Path) -> "Workspace":
        """Returns the workspace that KD_SWEEP_HOME, MLFLOW_TRACKING_URI, KD_SWEEP_ADDRESS,
        KD_SWEEP_STORAGE and KD_SWEEP_STUDY_URL describe. Raises `SpecError` where KD_SWEEP_SERVER
        names a service: the sweeps are there."""
        if environment.get(SERVER_VARIABLE):
            raise SpecError(
                "workspace: must be where the sweeps are, but got the service at "
                f"{environment[SERVER_VARIABLE]}, which does not offer this. Leave out "
                f"{SERVER_VARIABLE}, or the profile that names it."
            )
        storage = {
            name: environment[variable]
            for name, variable in STORAGE_VARIABLES.items()
            if environment.get(variable)
        }
        address = environment.get(ADDRESSES[0])
        return cls(
            home=home_folder(environment),
            tracking=environment.get(TRACKING_VARIABLE) or None,
            folder=folder,
            storage=storage,
            cluster=cluster_at(address, environment) if address else None,
        )

    @property
    def tracking_uri(self) -> str:
        """MLflow's address; the home folder's own store where none was given."""
        return self.tracking or sqlite_uri(record_file(self.home))

    def on(self, cluster: Cluster | None) -> "Workspace":
        """Returns this workspace with another cluster; None for this machine."""
        return replace(self, cluster=cluster)

    def require_cluster(self) -> Cluster:
        """Returns the cluster. Raises `JobError` when there is none."""
        if self.cluster is None:
            raise JobError(
                "cluster: an address must be given, but got none. Use --address http://HEAD:8265, "
                f"or set {ADDRESSES[0]}."
            )
        return self.cluster


@dataclass(frozen=True)
class Server:
    """A service (`kd-sweep serve`) that sweeps are reached through. `address`: where it is;
    `token`: what its user is known by; `here`: this machine, where files are read and written.
    Raises `SpecError` for an address or a token that cannot be one."""

    address: str
    token: str = field(repr=False)
    here: Workspace

    def __post_init__(self) -> None:
        if not self.address.startswith(("http://", "https://")) or holds_secret(self.address):
            raise SpecError(
                "--server: must start with http:// or https://, without a password, but got "
                f"'{self.address}'. For example https://sweeps.example.org."
            )
        if not self.token or not self.token.isascii() or not self.token.isprintable():
            what = "one with other characters" if self.token else "none"
            raise SpecError(
                f"{TOKEN_VARIABLE}: must hold your token of {self.address}, but got {what}. Set "
                "it, or name a file that holds it in the profile (token_file)."
            )
        object.__setattr__(self, "address", self.address.rstrip("/"))

    @classmethod
    def from_environment(
        cls, environment: Mapping[str, str], folder: Path, *, token: str | None = None
    ) -> "Server | None":
        """Returns the service that KD_SWEEP_SERVER and KD_SWEEP_TOKEN describe, None without.
        token: in the place of the variable's."""
        address = environment.get(SERVER_VARIABLE)
        if not address:
            return None
        token = token or environment.get(TOKEN_VARIABLE, "").strip()
        here = Workspace.from_environment(dict(environment) | {SERVER_VARIABLE: ""}, folder)
        return cls(address, token, here)


def cluster_at(address: str, environment: Mapping[str, str]) -> Cluster:
    """Returns the cluster at `address` with what `environment` says of it."""
    uses_token = environment.get("RAY_AUTH_MODE") == "token"
    return Cluster(
        address.rstrip("/"),
        token=environment.get("RAY_AUTH_TOKEN") or None if uses_token else None,
        environment={name: environment[name] for name in HANDED_ON if environment.get(name)},
    )


def find_cluster(address: str | None, environment: Mapping[str, str]) -> Cluster | None:
    """Returns the cluster at `address`, or at the one that KD_SWEEP_ADDRESS or Ray's own variable
    names; None when nothing does."""
    named = (environment.get(name) for name in ADDRESSES)
    found = address or next((value for value in named if value), None)
    return cluster_at(found, environment) if found else None

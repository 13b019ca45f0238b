"""A user of the service, what each role may do, and the tokens by which they are known. Pure but
for the drawing of secrets."""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from enum import StrEnum

PREFIX = "kds"
TOKEN = re.compile(rf"({PREFIX}_[0-9a-f]{{12}}_)[\w-]+")
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


class UserRole(StrEnum):
    """What a user may do. Each may do what the one before it may."""

    VIEWER = "viewer"  # looks at the sweeps of their project
    SUBMITTER = "submitter"  # plans and submits, and stops and goes on with their own
    ADMIN = "admin"  # sees and stops every sweep, and who did what

    def includes(self, other: "UserRole") -> bool:
        """Returns whether this role may do all that `other` may."""
        order = list(UserRole)
        return order.index(self) >= order.index(other)


@dataclass(frozen=True)
class User:
    """Somebody who uses the service. `project`: whose sweeps they see; `may_run_code`: their sweeps
    may run code of theirs or of a model's in the service's place."""

    name: str
    role: UserRole
    project: str
    may_run_code: bool

    @property
    def is_admin(self) -> bool:
        """Whether every sweep is theirs to see and to stop."""
        return self.role is UserRole.ADMIN

    def may_name_anything(self) -> bool:
        """Returns whether their sweeps may name any folder and address."""
        return self.is_admin

    def may_bring_code(self) -> bool:
        """Returns whether their sweeps may bring code."""
        return self.may_run_code or self.is_admin


@dataclass(frozen=True)
class DrawnToken:
    """A new token: its text, shown once, and what is stored of it."""

    text: str
    token_id: str
    secret_hash: str


def draw_token() -> DrawnToken:
    """Returns a token with 256 random bits."""
    token_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    return DrawnToken(f"{PREFIX}_{token_id}_{secret}", token_id, hash_of(secret))


def hash_of(secret: str) -> str:
    """Returns the SHA-256 of a secret. No slower one is needed: 256 random bits are not guessed."""
    return hashlib.sha256(secret.encode()).hexdigest()


def split_token(text: str) -> tuple[str, str] | None:
    """Returns a token's id and secret, None for what is no token."""
    prefix, _, rest = text.partition("_")
    token_id, _, secret = rest.partition("_")
    return (token_id, secret) if prefix == PREFIX and token_id and secret else None


def hidden(text: str) -> str:
    """Returns `text` with the secret of each token hidden."""
    return TOKEN.sub(r"\1***", text)


def is_secret(secret: str, secret_hash: str) -> bool:
    """Returns whether the secret is the one that was hashed, in a time that tells nothing."""
    return hmac.compare_digest(hash_of(secret), secret_hash)

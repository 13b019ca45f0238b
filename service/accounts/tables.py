"""The service's own tables: users, their tokens and quotas, whose each sweep is, keys of repeated
requests and who did what. What sweeps are and did is in their studies and in MLflow alone."""

import sqlalchemy as sa

FORMAT_VERSION = 1
METADATA = sa.MetaData()
NAME = sa.String(64)

FORMAT = sa.Table("kd_format", METADATA, sa.Column("version", sa.Integer, primary_key=True))
USERS = sa.Table(
    "kd_users",
    METADATA,
    sa.Column("name", NAME, primary_key=True),
    sa.Column("role", sa.String(16), nullable=False),
    sa.Column("project", NAME, nullable=False),
    sa.Column("may_run_code", sa.Boolean, nullable=False),
    sa.Column("added_at", sa.Float, nullable=False),
    # Kept once removed: another user of this name would have their sweeps.
    sa.Column("removed_at", sa.Float),
)
TOKENS = sa.Table(
    "kd_tokens",
    METADATA,
    sa.Column("token_id", sa.String(16), primary_key=True),
    sa.Column("user_name", NAME, sa.ForeignKey("kd_users.name"), nullable=False, index=True),
    sa.Column("secret_hash", sa.String(64), nullable=False),
    sa.Column("made_at", sa.Float, nullable=False),
    sa.Column("ends_at", sa.Float, nullable=False),
    # Of a page's session the token that it was opened with, and that it ends with.
    sa.Column("opened_with", sa.String(16), index=True),
)
QUOTAS = sa.Table(
    "kd_quotas",
    METADATA,
    sa.Column("owner", sa.String(16), primary_key=True),
    sa.Column("name", NAME, primary_key=True),
    sa.Column("trials_at_once", sa.Integer),
    sa.Column("open_sweeps", sa.Integer),
    sa.Column("gpu_hours", sa.Float),
)
SWEEPS = sa.Table(
    "kd_sweeps",
    METADATA,
    sa.Column("sweep_id", sa.String(255), primary_key=True),
    sa.Column("plan_id", sa.String(255), nullable=False, index=True),
    sa.Column("name", sa.String(255), nullable=False),
    sa.Column("owner", NAME, nullable=False, index=True),
    sa.Column("project", NAME, nullable=False, index=True),
    sa.Column("submitted_at", sa.Float, nullable=False),
)
KEYS = sa.Table(
    "kd_keys",
    METADATA,
    sa.Column("user_name", NAME, primary_key=True),
    sa.Column("key", sa.String(255), primary_key=True),
    sa.Column("request_hash", sa.String(64), nullable=False),
    sa.Column("outcome", sa.String(255), nullable=False),
    sa.Column("made_at", sa.Float, nullable=False),
)
DEEDS = sa.Table(
    "kd_deeds",
    METADATA,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("user_name", NAME, nullable=False),
    sa.Column("deed", sa.String(64), nullable=False),
    sa.Column("about", sa.String(255), nullable=False),
)

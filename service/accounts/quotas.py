"""What users and projects may have at once, and in a month, in the service's tables."""

import sqlalchemy as sa

from service.accounts.line import Owner, Quota, Quotas
from service.accounts.tables import QUOTAS


class QuotaTable:
    """The quotas that were set."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def all(self) -> Quotas:
        """Returns each quota by whom it is for."""
        with self._engine.connect() as connection:
            rows = [dict(row) for row in connection.execute(sa.select(QUOTAS)).mappings()]
        return {(Owner(row.pop("owner")), row.pop("name")): Quota(**row) for row in rows}

    def put(self, owner: Owner, name: str, quota: Quota) -> None:
        """Sets a quota in the place of the one before."""
        before = QUOTAS.delete().where(QUOTAS.c.owner == owner, QUOTAS.c.name == name)
        with self._engine.begin() as connection:
            connection.execute(before)
            connection.execute(QUOTAS.insert().values(owner=owner, name=name, **vars(quota)))

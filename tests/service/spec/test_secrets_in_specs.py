"""A sweep's document holds no password and no token, and says what else is wrong with it."""

import pytest
from fakes import make_document

from service.errors import SpecError
from service.spec.parse import parse_spec


@pytest.mark.parametrize(
    ("section", "field", "address"),
    [
        ("storage", "study_url", "postgresql://optuna:hunter2@db/optuna"),
        ("tracking", "uri", "https://me:hunter2@mlflow.example"),
    ],
)
def test_an_address_with_a_password_is_refused_and_not_repeated(
    section: str, field: str, address: str
) -> None:
    with pytest.raises(SpecError, match=f"{section}.{field}: must hold no password") as refusal:
        parse_spec(make_document(**{section: {field: address}}))
    assert "hunter2" not in str(refusal.value)
    parse_spec(make_document(**{section: {field: address.replace(":hunter2", "")}}))


def test_a_secret_hides_nothing_else_that_is_wrong() -> None:
    document = make_document(tracking={"uri": "http://me:secret@host"}, trials=0) | {"nmae": "x"}
    document["storage"] = {"study_url": "postgresql://me:secret@host/db"}
    with pytest.raises(SpecError, match="only known fields") as refusal:
        parse_spec(document)
    lines = str(refusal.value).splitlines()
    places = [line.partition(":")[0] for line in lines]
    assert sorted(places) == ["nmae", "storage.study_url", "tracking.uri", "trials"]
    assert "secret" not in str(refusal.value)

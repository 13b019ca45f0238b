"""Users, tokens, whose a sweep is, and repeated requests."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from api_support import Clock, make_accounts

from service.accounts.accounts import Accounts
from service.accounts.ownership import Claim
from service.accounts.users import UserRole, split_token
from service.errors import PlanError, SpecError


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def accounts(tmp_path: Path, clock: Clock) -> Iterator[Accounts]:
    made = make_accounts(tmp_path, clock)
    yield made
    made.close()


def test_a_token_lets_its_user_in_until_it_ends(accounts: Accounts, clock: Clock) -> None:
    anna = accounts.people.add("anna", UserRole.VIEWER)
    text, _, ends_at = accounts.people.new_token("anna", lasts_s=10)
    assert accounts.people.with_token(text) == anna
    clock.now = ends_at
    assert accounts.people.with_token(text) is None


def test_only_a_hash_of_a_token_is_stored(accounts: Accounts, tmp_path: Path) -> None:
    accounts.people.add("anna", UserRole.VIEWER)
    text, token_id, _ = accounts.people.new_token("anna", lasts_s=10)
    parts = split_token(text)
    assert parts is not None and parts[0] == token_id
    stored = b"".join(path.read_bytes() for path in tmp_path.glob("accounts.db*"))
    assert token_id.encode() in stored
    assert parts[1].encode() not in stored


@pytest.mark.parametrize("text", ["", "kds", "kds_1", "kds_a_b", "x_y_z", "kds__", "é" * 9])
def test_what_is_no_token_lets_nobody_in(accounts: Accounts, text: str) -> None:
    accounts.people.add("anna", UserRole.VIEWER)
    assert accounts.people.with_token(text) is None


def test_another_secret_under_a_known_id_lets_nobody_in(accounts: Accounts) -> None:
    accounts.people.add("anna", UserRole.VIEWER)
    text, token_id, _ = accounts.people.new_token("anna", lasts_s=10)
    assert accounts.people.with_token(f"{text}x") is None
    assert accounts.people.with_token(f"kds_{token_id}_x") is None


def test_a_revoked_token_and_a_removed_user_are_out(accounts: Accounts) -> None:
    for name in ("anna", "otto"):
        accounts.people.add(name, UserRole.ADMIN)
    first, token_id, _ = accounts.people.new_token("anna", lasts_s=10)
    second = accounts.people.new_token("otto", lasts_s=10)[0]
    accounts.people.revoke_token(token_id)
    accounts.people.remove("otto")
    assert accounts.people.with_token(first) is accounts.people.with_token(second) is None
    assert [one.name for one in accounts.people.all()] == ["anna"]
    with pytest.raises(SpecError, match="token .*: must be the id of a token"):
        accounts.people.revoke_token(token_id)


def test_a_session_ends_with_the_token_that_opened_it(accounts: Accounts, clock: Clock) -> None:
    anna = accounts.people.add("anna", UserRole.VIEWER)
    token, token_id, ends_at = accounts.people.new_token("anna", lasts_s=10)
    session = accounts.people.open_session(token, lasts_s=60)
    assert session is not None and accounts.people.with_token(session) == anna
    assert [one["token_id"] for one in accounts.people.tokens()] == [token_id]
    assert accounts.people.open_session("kds_a_b", lasts_s=60) is None
    clock.now = ends_at
    assert accounts.people.with_token(session) is None
    token, token_id, _ = accounts.people.new_token("anna", lasts_s=10)
    session = accounts.people.open_session(token, lasts_s=60)
    accounts.people.revoke_token(token_id)
    assert session is not None and accounts.people.with_token(session) is None


def test_a_name_is_given_once(accounts: Accounts) -> None:
    accounts.people.add("anna", UserRole.ADMIN)
    accounts.people.remove("anna")
    with pytest.raises(SpecError, match="a name may be given once, also after"):
        accounts.people.add("anna", UserRole.ADMIN)
    with pytest.raises(SpecError, match="user anna: must be one of the service's"):
        accounts.people.new_token("anna", lasts_s=10)


@pytest.mark.parametrize("name", ["", "Anna", "a b", "../x", "a" * 64, "-a", "<b>"])
def test_a_name_is_a_plain_word(accounts: Accounts, name: str) -> None:
    with pytest.raises(SpecError, match="a name must be of lower-case letters"):
        accounts.people.add(name, UserRole.VIEWER)


def test_two_users_of_one_plan_have_a_sweep_each(accounts: Accounts) -> None:
    anna = accounts.people.add("anna", UserRole.SUBMITTER)
    otto = accounts.people.add("otto", UserRole.SUBMITTER)
    wanted = Claim("toy-1", "toy")
    claims = [accounts.sweeps.claim(user, wanted).sweep_id for user in (anna, otto, anna)]
    assert claims == ["toy-1", "toy-1-2", "toy-1"]
    again = Claim("toy-1", "toy", again=True)
    assert accounts.sweeps.claim(anna, again).sweep_id == "toy-1-3"
    taken = Claim("new-1", "new", taken=frozenset({"new-1", "new-1-2"}))
    assert accounts.sweeps.claim(otto, taken).sweep_id == "new-1-3"


def test_a_user_sees_the_sweeps_of_their_project(accounts: Accounts, clock: Clock) -> None:
    anna = accounts.people.add("anna", UserRole.SUBMITTER)
    vera = accounts.people.add("vera", UserRole.VIEWER, project="anna")
    otto = accounts.people.add("otto", UserRole.SUBMITTER)
    for number in range(2):
        clock.now += 1
        accounts.sweeps.claim(anna, Claim(f"toy-{number}", "toy"))
    for user, seen in ((anna, 2), (vera, 2), (otto, 0), (None, 2)):
        assert len(accounts.sweeps.owned(user)) == seen
    assert [one.sweep_id for one in accounts.sweeps.owned()] == ["toy-1", "toy-0"]


def test_a_repeated_request_comes_to_what_the_first_came_to(accounts: Accounts) -> None:
    anna = accounts.people.add("anna", UserRole.SUBMITTER)
    otto = accounts.people.add("otto", UserRole.SUBMITTER)
    owned = accounts.sweeps
    assert owned.recall(anna, "key", "hash") is None
    assert owned.once(anna, "key", "hash", "first") == "first"
    assert owned.once(anna, "key", "hash", "second") == "first"
    assert owned.once(otto, "key", "hash", "otto's") == "otto's"
    with pytest.raises(SpecError, match="Idempotency-Key: a key must stand for one request"):
        owned.recall(anna, "key", "other")


def test_deeds_are_kept_the_newest_first(accounts: Accounts, clock: Clock) -> None:
    accounts.note("anna", "submit", "toy-1")
    clock.now += 1
    accounts.note("anna", "stop", "toy-1" + "x" * 300)
    assert [(one.deed, one.at) for one in accounts.deeds()] == [
        ("stop", clock.now),
        ("submit", clock.now - 1),
    ]


def test_tables_are_found_again_and_those_of_another_version_are_refused(tmp_path: Path) -> None:
    import sqlalchemy as sa

    from service.accounts.tables import FORMAT

    first = make_accounts(tmp_path, Clock())
    first.people.add("anna", UserRole.VIEWER)
    first.close()
    second = make_accounts(tmp_path, Clock())
    assert [one.name for one in second.people.all()] == ["anna"]
    second.check()
    with sa.create_engine(f"sqlite:///{tmp_path}/accounts.db").begin() as connection:
        connection.execute(FORMAT.update().values(version=99))
    second.close()
    with pytest.raises(PlanError, match="the tables must be of version 1, but got 99"):
        make_accounts(tmp_path, Clock())


@pytest.mark.parametrize(
    "url", ["nothing", "sqlite:////no/such/folder/a.db", "madeup://x:secret@h/d"]
)
def test_a_database_that_does_not_open_is_named_without_its_password(url: str) -> None:
    with pytest.raises(PlanError, match="accounts: the database at .* must open, but got") as told:
        Accounts(url)
    assert "secret" not in str(told.value)


def test_each_role_may_what_the_one_before_may() -> None:
    admin, submitter, viewer = UserRole.ADMIN, UserRole.SUBMITTER, UserRole.VIEWER
    assert admin.includes(submitter) and submitter.includes(viewer) and admin.includes(admin)
    assert not viewer.includes(submitter) and not submitter.includes(admin)

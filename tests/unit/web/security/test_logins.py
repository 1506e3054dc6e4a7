"""Passwords and tokens: one check at a time, guesses counted, others not locked out."""

from __future__ import annotations

import base64
import hashlib
import os
import threading
from collections import Counter

import pytest

from lfscp.config import passwords
from lfscp.config.passwords import hash_password, is_password, new_token
from lfscp.config.web import WebSection
from lfscp.services.access import attempts as counts
from lfscp.services.access.attempts import Attempts, TooManyAttemptsError
from lfscp.web.problems import Problem
from lfscp.web.security.logins import MAX_WAITING, Logins
from lfscp.web.security.sessions import MAX_SESSIONS_OF_USER
from tests.support.still_clock import StillClock
from tests.support.web_app import serving

pytestmark = pytest.mark.usefixtures("quick_passwords")
PASSWORD = "correct horse"  # noqa: S105 - of a test
HERE, THERE = "10.0.0.1", "10.0.0.2"


@pytest.fixture
def clock():
    return StillClock()


@pytest.fixture
def attempts(clock):
    return Attempts(clock)


@pytest.fixture(scope="module")
def hashed():
    return hash_password(PASSWORD)


@pytest.fixture
def logins(hashed, attempts):
    return Logins(WebSection(users=(f"anna:work:{hashed}", f"otto:{hashed}")), attempts)


@pytest.fixture
def hashing(monkeypatch):
    """Where and how often scrypt is run."""
    threads = Counter()
    real = hashlib.scrypt

    def counted(*args, **options):
        threads[threading.current_thread().name] += 1
        return real(*args, **options)

    monkeypatch.setattr(passwords.hashlib, "scrypt", counted)
    return threads


def fail(attempts, times, account="anna", address=HERE):
    for _ in range(times):
        attempts.begin(account, address)


def status(call, *args):
    try:
        call(*args)
    except Problem as problem:
        return problem.status
    return 200


def basic(name, password):
    return base64.b64encode(f"{name}:{password}".encode()).decode()


def test_guesses_all_at_once_are_no_more_than_guesses_one_by_one(logins, hashing):
    found = Counter()
    begin = threading.Barrier(100)

    def guess(number):
        begin.wait()
        found[status(logins.user, "anna", f"wrong {number}", HERE)] += 1

    threads = [threading.Thread(target=guess, args=(number,)) for number in range(100)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert set(found) == {401, 429}
    assert found[401] <= counts.MAX_FAILURES
    assert sum(hashing.values()) == found[401]
    assert len(hashing) == 1, "in one thread, or each keeps its 16 MB"


def test_a_wait_is_said_and_over_after_a_minute(logins, clock):
    for _ in range(counts.MAX_FAILURES):
        assert status(logins.user, "anna", "wrong", HERE) == 401
    with pytest.raises(Problem) as refused:
        logins.user("anna", PASSWORD, HERE)
    assert refused.value.status == 429
    assert 0 < int(refused.value.headers["Retry-After"]) <= 61

    clock.now += counts.WAIT_S
    assert logins.user("anna", PASSWORD, HERE).name == "anna"


def test_guesses_from_elsewhere_and_at_others_lock_nobody_out(logins):
    for _ in range(counts.MAX_FAILURES + 1):
        status(logins.user, "anna", "wrong", THERE)
    assert logins.user("anna", PASSWORD, HERE).name == "anna"
    assert logins.user("otto", PASSWORD, THERE).name == "otto"


def test_where_somebody_has_logged_in_before_others_guesses_do_not_count(attempts):
    fail(attempts, 1)
    attempts.succeeded("anna", HERE)
    for number in range(counts.MAX_FAILURES_OF_ACCOUNT):
        attempts.begin("anna", f"10.1.0.{number}")  # from everywhere
    for number in range(counts.MAX_FAILURES_OF_ADDRESS):
        attempts.begin(f"user {number}", HERE)  # and by everybody here
    with pytest.raises(TooManyAttemptsError):
        attempts.begin("anna", THERE)
    attempts.begin("anna", HERE)


def test_one_address_that_tries_many_names_has_to_wait(attempts, clock):
    for number in range(counts.MAX_FAILURES_OF_ADDRESS):
        attempts.begin(f"user {number}", HERE)
    with pytest.raises(TooManyAttemptsError):
        attempts.begin("one more", HERE)
    attempts.begin("one more", THERE)
    clock.now += counts.WAIT_S
    attempts.begin("one more", HERE)


def test_an_account_that_is_guessed_at_from_everywhere_slows_down(attempts, clock):
    for number in range(counts.MAX_FAILURES_OF_ACCOUNT):
        attempts.begin("anna", f"10.0.0.{number}")
    waits = []
    for number in range(9):
        with pytest.raises(TooManyAttemptsError) as refused:
            attempts.begin("anna", f"10.0.1.{number}")
        waits.append(refused.value.wait_s)
        clock.now += refused.value.wait_s
        attempts.begin("anna", f"10.0.1.{number}")
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    attempts.begin("otto", "10.0.1.1")
    clock.now += counts.FORGOTTEN_S
    attempts.begin("anna", "10.0.1.1")
    attempts.begin("anna", "10.0.1.2")


def test_a_right_password_is_forgotten_as_an_attempt(attempts):
    for _ in range(3 * counts.MAX_FAILURES_OF_ADDRESS):
        attempts.begin("anna", HERE)
        attempts.succeeded("anna", HERE)
    fail(attempts, counts.MAX_FAILURES)


def test_counts_do_not_grow_without_end_nor_do_new_names_push_a_wait_out(attempts, monkeypatch):
    monkeypatch.setattr(counts, "_MAX_KEPT", 100)
    fail(attempts, counts.MAX_FAILURES)
    for number in range(500):
        with pytest.raises(TooManyAttemptsError):
            attempts.begin("anna", HERE)
        try:
            attempts.begin("x" * 1000 + str(number), HERE)
        except TooManyAttemptsError:
            continue
    assert len(attempts._counts) <= 100
    with pytest.raises(TooManyAttemptsError):
        attempts.begin("anna", HERE)


@pytest.mark.parametrize("scheme", ["login", "basic"])
@pytest.mark.parametrize("name", ["anna", "nobody", ""])
def test_a_name_that_nobody_has_costs_as_much_as_one_that_somebody_has(
    logins, hashing, scheme, name
):
    if scheme == "login":
        assert status(logins.user, name, "wrong", HERE) == 401
    else:
        assert status(logins.of_header, "basic", basic(name, "wrong"), HERE) == 401
    assert sum(hashing.values()) == 1


def test_a_script_s_right_password_is_hashed_once_and_never_locked_out(logins, hashing):
    assert logins.of_header("basic", basic("anna", PASSWORD), HERE).role == "work"
    for _ in range(counts.MAX_FAILURES):
        status(logins.of_header, "basic", basic("anna", "wrong"), HERE)
    before = sum(hashing.values())
    assert status(logins.of_header, "basic", basic("anna", "wrong"), HERE) == 429
    assert status(logins.user, "anna", PASSWORD, HERE) == 429, "one count for both"
    assert logins.of_header("basic", basic("anna", PASSWORD), HERE).name == "anna"
    assert sum(hashing.values()) == before


def test_wrong_tokens_have_to_wait_and_hold_up_no_right_one(attempts, hashed):
    token, of_token = new_token()
    users = (f"anna:{hashed}",)
    logins = Logins(WebSection(users=users, tokens=(f"script:read:{of_token}",)), attempts)
    for _ in range(counts.MAX_FAILURES_OF_ADDRESS):
        assert status(logins.of_header, "bearer", "wrong", HERE) == 401
    assert status(logins.of_header, "bearer", "wrong", HERE) == 429
    assert logins.of_header("bearer", token, HERE).name == "script"
    assert logins.user("anna", PASSWORD, HERE).name == "anna", "a stale script locks nobody out"


def test_few_passwords_wait_for_their_turn(hashed, attempts, monkeypatch):
    logins = Logins(WebSection(users=(f"anna:{hashed}",)), attempts)
    go_on, waiting = threading.Event(), threading.Semaphore(0)

    def slow(*_):
        waiting.release()
        go_on.wait(30)
        return False

    monkeypatch.setattr("lfscp.web.security.logins.is_password", slow)
    threads = [
        threading.Thread(target=status, args=(logins.user, f"user {number}", "x", f"10.{number}"))
        for number in range(MAX_WAITING)
    ]
    for each in threads:
        each.start()
    for _ in threads:
        assert waiting.acquire(timeout=30)
    with pytest.raises(Problem) as refused:
        logins.user("anna", PASSWORD, HERE)
    go_on.set()
    for each in threads:
        each.join()
    assert (refused.value.status, refused.value.headers) == (429, {"Retry-After": "1"})


def test_a_forked_process_checks_passwords_too(hashed):
    assert is_password(PASSWORD, hashed)
    child = os.fork()
    if not child:
        os._exit(0 if is_password(PASSWORD, hashed) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_nobody_s_logins_end_the_sessions_of_others(tmp_path, hashed, monkeypatch):
    monkeypatch.setattr(
        "lfscp.web.security.logins.is_password", lambda password, _: password == PASSWORD
    )
    users = [f"anna:{hashed}", f"otto:{hashed}"]
    with serving(tmp_path, web={"users": users}) as client:
        access = client.app.state.web.access
        first = access.log_in("anna", PASSWORD, HERE)
        own = [access.log_in("otto", PASSWORD, HERE) for _ in range(MAX_SESSIONS_OF_USER + 5)]
        assert access.session(first) is not None
        assert [access.session(each) is None for each in own].count(True) == 5
        assert access.session(own[-1]) is not None

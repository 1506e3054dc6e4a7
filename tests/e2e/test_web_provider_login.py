"""A person who logs in at an identity provider, on another site than the page, and out again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.support.identity_provider import CLIENT, SECRET, IdentityProvider, identity_provider


@pytest.fixture
def idp() -> Iterator[IdentityProvider]:
    with identity_provider("localhost") as provider:  # another site than 127.0.0.1
        provider.asks = True
        yield provider


@pytest.fixture
def local(start_node: Any, idp: IdentityProvider) -> Any:
    return start_node(
        "local",
        configuration=f"""
[web.oidc]
issuer = "{idp.issuer}"
client_id = "{CLIENT}"
client_secret = "{SECRET}"
role_claim = "realm_access.roles"
roles = ["radiology:work"]
""",
        flags=["--http-port", "0"],
    )


def test_a_person_logs_in_at_the_provider_sees_what_her_role_allows_and_logs_out(
    page: Page, local: Any, idp: IdentityProvider, shoot: Any
) -> None:
    idp.user["realm_access"] = {"roles": ["radiology"]}
    idp.id_claims = {"realm_access": None}  # as Keycloak: in the access token only
    url = str(local.wait_for("page")["url"]).rstrip("/")

    page.goto(f"{url}/jobs")
    expect(page).to_have_title("Provider")
    page.get_by_role("link", name="Log in as berta").click()

    expect(page).to_have_url(f"{url}/jobs")
    expect(page.locator(".user")).to_have_text("berta")
    shoot("logged-in-at-a-provider")
    page.get_by_role("link", name="Upload").click()
    expect(page).to_have_url(f"{url}/upload")
    cookies = {each["name"]: each for each in page.context.cookies(url)}
    assert set(cookies) == {"lfscp_session"}
    assert (cookies["lfscp_session"]["httpOnly"], cookies["lfscp_session"]["sameSite"]) == (
        True,
        "Strict",
    )

    page.get_by_role("button", name="Log out").click()
    expect(page).to_have_title("Provider")  # its login again: it has ended its session
    assert len(idp.logouts) == 1
    page.goto(f"{url}/jobs")
    expect(page).to_have_title("Provider")

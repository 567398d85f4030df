"""Who is asking: the service account's key, OAuth tokens, and the check of each request.

Google's libraries prove themselves in two ways, both real here: they trade a signed assertion for
an access token at `/token`, or sign a token for the API themselves. The account and its key are made
at the first start; `gcp-credentials.json` is what a user would download from Google.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from simcloud.gcp import errors, wire
from simcloud.store import Store

ANONYMOUS = "anonymous"
_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_GOOGLE_AUDIENCES = (
    "https://oauth2.googleapis.com/token",
    "https://accounts.google.com/o/oauth2/token",
    "https://www.googleapis.com/oauth2/v4/token",
)
"""Clients that cannot be given an audience name Google's own."""
_LONGEST_ASSERTION_S = 3600
_SKEW_S = 300


class TokenError(Exception):
    """The `/token` endpoint refuses; carries OAuth's error slug and description."""

    def __init__(self, slug: str, description: str) -> None:
        super().__init__(description)
        self.slug = slug
        self.description = description


class Tokens:
    """The account's key and the access tokens in circulation. Lives in real time."""

    life_s = 3599

    def __init__(self, *, store: Store, project: str, token_uri: str) -> None:
        self._store = store
        self._settings = store.collection("gcp_auth")
        self._documents = store.collection("gcp_tokens")
        self._project = project
        self._token_uri = token_uri
        self.email = f"simcloud@{project}.iam.gserviceaccount.com"
        account = self._settings.get("account")
        if account is None:
            account = {
                "private_key": _new_key(),
                "private_key_id": secrets.token_hex(20),
                "client_id": wire.numeric_id() + "00",
            }
            self._settings.put("account", account)
        self._account: dict[str, str] = account
        private = serialization.load_pem_private_key(account["private_key"].encode(), None)
        self._public = private.public_key()

    def credentials(self) -> dict[str, str]:
        """Return the service account file that a user would download."""
        return {
            "type": "service_account",
            "project_id": self._project,
            "private_key_id": self._account["private_key_id"],
            "private_key": self._account["private_key"],
            "client_email": self.email,
            "client_id": self._account["client_id"],
            "auth_uri": self._token_uri.replace("/token", "/o/oauth2/auth"),
            "token_uri": self._token_uri,
            "auth_provider_x509_cert_url": self._token_uri.replace("/token", "/oauth2/v1/certs"),
            "universe_domain": "googleapis.com",
        }

    def write_credentials(self, path: Path) -> None:
        """Write the service account file, readable by its owner only."""
        partial = path.with_suffix(".partial")
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(self.credentials(), file, indent=2)
        partial.replace(path)

    def issue(self, *, email: str) -> str:
        """Return a new access token for `email`."""
        token = f"ya29.c.{secrets.token_urlsafe(96)}"
        self._documents.put(token, {"email": email, "expires": time.time() + self.life_s})
        self._drop_expired()
        return token

    def identity(self, *, email: str, audience: str) -> str:
        """Return a signed ID token, as the metadata server hands them out."""
        now = int(time.time())
        claims = {
            "aud": audience,
            "azp": self._account["client_id"],
            "email": email,
            "email_verified": True,
            "exp": now + 3600,
            "iat": now,
            "iss": "https://accounts.google.com",
            "sub": self._account["client_id"],
        }
        headers = {"kid": self._account["private_key_id"]}
        return jwt.encode(claims, self._account["private_key"], algorithm="RS256", headers=headers)

    def exchange(self, form: dict[str, str]) -> dict[str, Any]:
        """Trade a signed assertion for an access token.

        Raises:
            TokenError: With the slug and description that Google's endpoint sends.
        """
        if form.get("grant_type") != _GRANT:
            raise TokenError(
                "unsupported_grant_type", f"Invalid grant_type: {form.get('grant_type')}"
            )
        claims = self._verify(form.get("assertion", ""))
        if claims.get("aud") not in (self._token_uri, *_GOOGLE_AUDIENCES):
            raise TokenError("invalid_grant", "Invalid JWT: audience is not this endpoint.")
        if "target_audience" in claims:
            return {
                "id_token": self.identity(email=self.email, audience=str(claims["target_audience"]))
            }
        if not claims.get("scope"):
            raise TokenError("invalid_scope", "Empty or missing scope not allowed.")
        return {
            "access_token": self.issue(email=self.email),
            "expires_in": self.life_s,
            "token_type": "Bearer",
        }

    def authenticate(self, bearer: str) -> str:
        """Return who holds this token.

        Raises:
            errors.GoogleError: 401 if it is unknown, expired or badly signed.
        """
        known = self._documents.get(bearer)
        if known is not None:
            if time.time() >= known["expires"]:
                raise errors.unauthenticated()
            return str(known["email"])
        if bearer.count(".") == 2 and not bearer.startswith("ya29."):
            try:
                claims = self._verify(bearer)
            except TokenError as refused:
                raise errors.unauthenticated() from refused
            # a token signed by the account itself names the API it is for, or its scopes
            if claims.get("scope") or claims.get("aud"):
                return self.email
        raise errors.unauthenticated()

    def _verify(self, assertion: str) -> dict[str, Any]:
        try:
            claims: dict[str, Any] = jwt.decode(
                assertion,
                self._public,  # type: ignore[arg-type]
                algorithms=["RS256"],
                leeway=_SKEW_S,
                options={"verify_aud": False, "require": ["iss", "exp", "iat"]},
            )
        except jwt.ExpiredSignatureError as expired:
            raise TokenError(
                "invalid_grant",
                "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable "
                "timeframe. Check your iat and exp values in the JWT claim.",
            ) from expired
        except jwt.InvalidSignatureError as forged:
            raise TokenError("invalid_grant", "Invalid JWT Signature.") from forged
        except jwt.PyJWTError as unreadable:
            raise TokenError("invalid_grant", f"Invalid JWT: {unreadable}") from unreadable
        if claims["iss"] != self.email:
            raise TokenError("invalid_grant", "Invalid grant: account not found")
        if claims["exp"] - claims["iat"] > _LONGEST_ASSERTION_S + _SKEW_S:
            raise TokenError(
                "invalid_grant", "Invalid JWT: Token must be a short-lived token (60 minutes)."
            )
        return claims

    def _drop_expired(self) -> None:
        now = time.time()
        for token, document in self._documents.items():
            if now >= document["expires"]:
                self._documents.delete(token)


def _new_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()

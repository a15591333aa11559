"""The keys and the policy that the settings ask for."""

import random
from collections.abc import Callable

from node.auth.jwks import IssuerKeys, Pace
from node.auth.key_set import Issuer, Outcome, insecure
from node.auth.keys import FixedKeys, Key, KeyRing, UnfitKey
from node.auth.pem import keys_of_pem
from node.auth.tokens import Policy
from node.config import ConfigurationError, Settings
from node.core.forgetting import TokenLife


def policy_of(settings: Settings) -> Policy:
    """What a token must be."""
    return Policy(
        algorithms=settings.algorithms,
        issuer=settings.token_issuer,
        audience=settings.jwt_audience,
        leeway_ms=round(settings.jwt_leeway_seconds * 1000),
        max_ttl_ms=round(settings.jwt_max_ttl_seconds * 1000),
        max_bytes=settings.limits.token_bytes,
        max_user_chars=settings.limits.user_chars,
    )


def token_life(settings: Settings) -> TokenLife:
    """How long a token may be one."""
    policy = policy_of(settings)
    return TokenLife(max_ttl_ms=policy.max_ttl_ms, leeway_ms=policy.leeway_ms)


def fixed_keys(settings: Settings) -> KeyRing:
    """The keys that the settings hold. Raises `ConfigurationError` when the PEM file has something else in it."""
    return KeyRing((*KeyRing.from_secrets(settings.jwt_secret).keys, *_file_keys(settings)))


def _file_keys(settings: Settings) -> tuple[Key, ...]:
    path = settings.jwt_public_key_file
    if path is None:
        return ()
    try:
        return keys_of_pem(path.read_bytes())
    except (OSError, UnfitKey) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        takes = "takes the path of a PEM file of public keys"
        raise ConfigurationError([f"TIDEGATE_JWT_PUBLIC_KEY_FILE: {takes}, got {str(path)!r} ({reason})"]) from None


def issuer_of(settings: Settings) -> Issuer | None:
    """Where the key set is; a URL of its own goes before discovery."""
    if settings.jwks_url is None and settings.oidc_issuer is None:
        return None
    return Issuer(jwks_url=settings.jwks_url, issuer=settings.oidc_issuer, allow_http=settings.jwks_allow_http)


def key_problems(settings: Settings) -> list[str]:
    """What is wrong with the configured keys, as `ConfigurationError` has it."""
    problems = []
    for name, url in (("JWKS_URL", settings.jwks_url), ("OIDC_ISSUER", settings.oidc_issuer)):
        if url is not None and insecure(url) and not settings.jwks_allow_http:
            takes = "takes an https:// URL (http:// only of this machine, or with TIDEGATE_JWKS_ALLOW_HTTP=1)"
            problems.append(f"TIDEGATE_{name}: {takes}, got plain HTTP to another machine")
    if issuer_of(settings) is not None and settings.jwks_stale_seconds < 2 * settings.jwks_refresh_seconds:
        takes = f"takes at least twice TIDEGATE_JWKS_REFRESH_SECONDS ({settings.jwks_refresh_seconds:g})"
        problems.append(f"TIDEGATE_JWKS_STALE_SECONDS: {takes}, got '{settings.jwks_stale_seconds:g}'")
    try:
        fixed_keys(settings)
    except ConfigurationError as error:
        problems += error.problems
    return problems


def check_supported(settings: Settings) -> None:
    """Raises `ConfigurationError` for what the settings ask for and cannot be had: said at the start rather than ignored."""
    problems = key_problems(settings)
    if settings.handshake != "namespace" and set(settings.token_sources) == {"auth"}:
        problems.append(
            "TIDEGATE_TOKEN_SOURCES: takes header, query or a cookie where the HTTP request is judged, got auth alone"
        )
    if problems:
        raise ConfigurationError(problems)


def key_source(settings: Settings, fetched: Callable[[Outcome], None]) -> FixedKeys | IssuerKeys:
    """The source of keys; `fetched` is told how each fetch came out."""
    fixed, issuer = fixed_keys(settings), issuer_of(settings)
    if issuer is None:
        return FixedKeys(fixed)
    from node.auth.key_fetch import KeyFetcher  # noqa: PLC0415  an HTTP client, for who has an issuer

    pace = Pace(
        refresh_s=settings.jwks_refresh_seconds,
        cooldown_s=settings.jwks_cooldown_seconds,
        stale_s=settings.jwks_stale_seconds,
    )
    return IssuerKeys(KeyFetcher(issuer).fetch, fixed=fixed, pace=pace, draw=random.random, fetched=fetched)

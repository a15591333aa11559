"""Dashboard: who is let in, on which tokens, and when those end."""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from monitoring.grafana.board import JOB, Row, board
from monitoring.grafana.panels import Limits, Query, bars, lines, number, spread
from monitoring.grafana.promql import most, of, quantile, rate, total

CAPACITY = Query(total(of("tidegate_handshake_capacity_per_second")), "what can be taken")
SPANS = {"0s-15s": 15, "15s-30s": 15, "30s-60s": 30, "1m-5m": 240, "5m-15m": 600, "15m-1h": 2_700}  # and their lengths in seconds


def auth() -> Dashboard:
    """Auth and expiry."""
    return board(
        "tidegate-auth",
        "Auth and expiry",
        "Handshakes by what became of them, the life of tokens, the expiries ahead against what the nodes can take, and the keys.",
        info="tidegate_build_info",
        rows=[_now(), _handshakes(), _ahead(), _renewals(), _withdrawals()],
    )


def _now() -> Row:
    refused = total(rate("tidegate_handshakes_total", 'outcome="refused"'))
    judged = total(rate("tidegate_handshakes_total", 'outcome=~"accepted|refused"'))
    return Row(
        "Now",
        [
            number("Sessions", "Open sessions.", "short", Query(total(of("tidegate_sessions")))),
            number(
                "Ending within a minute",
                "Open sessions whose token ends within a minute, those included that will renew it.",
                "short",
                Query(total(of("tidegate_sessions_expiring", 'within="60s"'))),
            ),
            number("Capacity", "Handshakes a second that the nodes have measured they can take.", "reqps", CAPACITY),
            number(
                "Crowd ahead",
                "For how long the cluster would be busy with those who fall off within a minute, were it all at once.",
                "s",
                Query(most(f"job:tidegate_expiry_crowd_seconds:max{{{JOB}}}")),
                limits=Limits(10, 5),
                runbook="TidegateCliffAhead",
            ),
            number(
                "Refused",
                "Of the handshakes that were judged.",
                "percentunit",
                Query(f"{refused} / {judged}"),
                limits=Limits(0.2, 0.05),
                runbook="TidegateRefusals",
            ),
            number(
                "Past their end",
                "Sessions that are open more than 250 ms after their tokens ended. There must be none.",
                "short",
                Query(total(of("tidegate_sessions_overdue"))),
                limits=Limits(1),
                runbook="TidegateSessionsOverdue",
            ),
        ],
    )


def _handshakes() -> Row:
    handshakes = "tidegate_handshakes_total"
    return Row(
        "Handshakes",
        [
            lines(
                "Handshakes by outcome",
                "Accepted; refused, because of the token; busy: sent away before a token was looked at, to come again.",
                "reqps",
                Query(total(rate(handshakes), by="outcome"), "{{outcome}}"),
                CAPACITY,
                runbook="TidegateStorm",
            ),
            lines(
                "Not accepted, by code",
                "Why: the codes are those of docs/protocol.md. One that grows on all nodes is a key, a clock or the issuer.",
                "reqps",
                Query(total(rate(handshakes, 'outcome!="accepted"'), by="code"), "{{code}}"),
                stacked=True,
                runbook="TidegateRefusals",
            ),
            lines(
                "Refused, by node",
                "One node that refuses more than the others has another clock or other settings.",
                "reqps",
                Query(total(rate(handshakes, 'outcome="refused"'), by="instance"), "{{instance}}"),
                runbook="TidegateRefusals",
            ),
            lines(
                "Time of a handshake",
                "From CONNECT to the answer: what the slowest in a hundred and the one in the middle wait.",
                "s",
                Query(quantile(0.99, "tidegate_handshake_seconds", by="outcome"), "{{outcome}} p99"),
                Query(quantile(0.5, "tidegate_handshake_seconds", by="outcome"), "{{outcome}} p50"),
            ),
            lines(
                "Time to verify a token",
                "The slowest in a hundred, by algorithm, and whether the token had been verified before.",
                "s",
                Query(quantile(0.99, "tidegate_token_verify_seconds", by="alg, cache"), "{{alg}}, cache {{cache}}"),
            ),
            lines(
                "Accepted, by transport and source",
                "How they came, and where their tokens were.",
                "reqps",
                Query(total(rate(handshakes, 'outcome="accepted"'), by="transport, source"), "{{transport}}, {{source}}"),
                stacked=True,
            ),
        ],
    )


def _ahead() -> Row:
    def due(span: str, seconds: int) -> Query:
        ending = total(f'job_span:tidegate_sessions_expiring:sum{{{JOB}, span="{span}"}}')
        capacity = total(f"job:tidegate_handshake_capacity_per_second:sum{{{JOB}}}")
        return Query(f"{ending} / ({seconds} * {capacity})", span)

    return Row(
        "The life of tokens, and the expiries ahead",
        [
            bars(
                "Expiries ahead, of what can be taken",
                "The tokens that end in each span ahead, spread evenly over it, against the handshakes that can be taken in it. At 100%"
                " the cluster could just take back all of them, did none renew and were they spread evenly.",
                "percentunit",
                *(due(span, seconds) for span, seconds in SPANS.items()),
                limits=Limits(1, 0.5),
                runbook="TidegateCliffAhead",
            ),
            lines(
                "Crowd ahead, by span",
                "For how long the cluster would be busy with those who fall off in a span, were it in one moment of it; farther than 15 s"
                " ahead only the share that has lately not been renewed.",
                "s",
                Query(most(f"job_span:tidegate_expiry_crowd_seconds:ratio{{{JOB}}}", by="span"), "{{span}}"),
                limits=Limits(10, 5),
                runbook="TidegateCliffAhead",
            ),
            lines(
                "Sessions that end within",
                "How many open sessions end within each time from now. A crowd whose tokens end together is a step that comes nearer.",
                "short",
                Query(total(of("tidegate_sessions_expiring"), by="within"), "{{within}}"),
            ),
            spread(
                "Life left in a token when it was accepted",
                "One bright row is a crowd whose tokens will end together.",
                "s",
                Query(total(rate("tidegate_token_ttl_seconds_bucket"), by="le"), "{{le}}"),
            ),
            lines(
                "Tokens at their end",
                "Renewed in time, or closed: the closed ones come back as handshakes.",
                "ops",
                Query(total(rate("tidegate_token_expiries_total"), by="result"), "{{result}}"),
                stacked=True,
                runbook="TidegateRenewalsFailing",
            ),
            lines(
                "Lateness of the end",
                "From the end of a token to the close of its session. Over 0.25 s is a fault.",
                "s",
                Query(quantile(0.99, "tidegate_expiry_lateness_seconds"), "p99"),
                Query(quantile(0.5, "tidegate_expiry_lateness_seconds"), "p50"),
                limits=Limits(0.25),
                runbook="TidegateExpiryLate",
            ),
        ],
    )


def _renewals() -> Row:
    renewals = "tidegate_token_refreshes_total"
    return Row(
        "Renewals",
        [
            lines(
                "Renewals by outcome",
                "A refused renewal changes nothing, and the session ends with its token.",
                "ops",
                Query(total(rate(renewals), by="outcome"), "{{outcome}}"),
                runbook="TidegateRenewalsFailing",
            ),
            lines(
                "Refused renewals, by code",
                "The codes are those of docs/protocol.md.",
                "ops",
                Query(total(rate(renewals, 'outcome="refused"'), by="code"), "{{code}}"),
                stacked=True,
                runbook="TidegateRenewalsFailing",
            ),
            lines(
                "Renewals ahead",
                "The highest rate of renewals that is scheduled, and the handshakes that can be taken: as many would come at once, did they"
                " not renew.",
                "ops",
                Query(total(of("tidegate_renewal_peak_per_second")), "renewals, at most"),
                CAPACITY,
            ),
        ],
    )


def _withdrawals() -> Row:
    return Row(
        "Withdrawals and keys",
        [
            lines(
                "Withdrawals",
                "Of tokens, and suspensions, as they reach each node.",
                "ops",
                Query(total(rate("tidegate_revocations_total"), by="instance"), "{{instance}}"),
                width=6,
            ),
            lines(
                "Time to withdraw",
                "From the asking to the close of a session: promised within a second.",
                "s",
                Query(quantile(0.99, "tidegate_revocation_seconds"), "p99"),
                limits=Limits(1),
                width=6,
            ),
            lines(
                "Age of the issuer's keys",
                "Since the key set was last fetched, and when it stops to be gone by. Nothing where no issuer is configured.",
                "s",
                Query(most(of("tidegate_jwks_age_seconds"), by="instance"), "{{instance}}"),
                Query(most(of("tidegate_jwks_stale_after_seconds")), "bound"),
                width=6,
                runbook="TidegateJwksStale",
            ),
            lines(
                "Fetches of the issuer's keys",
                "By outcome. Nothing where no issuer is configured.",
                "ops",
                Query(total(rate("tidegate_jwks_fetches_total"), by="outcome"), "{{outcome}}"),
                width=6,
                stacked=True,
                runbook="TidegateJwksStale",
            ),
        ],
    )

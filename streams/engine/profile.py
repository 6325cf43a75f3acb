"""What the lender has told of a borrower: segment, limit, since when."""

from msgspec import Struct


class Profile(Struct, array_like=True, gc=False):
    """The latest `profile_set` by its `at_ms`. `limit_minor` is the lender's figure, not ours (see limits).
    `identity_token`, `industry` and `region` are empty where the lender gives none."""

    segment: str
    currency: str
    limit_minor: int
    onboarded_day: int
    at_ms: int
    event_id: str
    identity_token: str = ""
    industry: str = ""
    region: str = ""

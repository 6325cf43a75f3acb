"""The features from signals that come now and then, from what is owed against what is earned, and from misuse.

What each means; `signal_features` evaluates them. Links and reports of others score, and never more than that.
"""

from streams.engine.feature import Feature

SIGNAL_FEATURES: tuple[Feature, ...] = (
    Feature(
        "debt_to_income_bp", "load", "bp", "loan", 0,
        "What is owed on all own loans against a month's income; unknown while the income of a month is",
    ),
    Feature(
        "debt_to_income_rise_90d_bp", "load", "bp", "loan", 0,
        "How far that rose in 90 days; unknown where the income of then is, and after a new schedule",
    ),
    Feature("limit_to_income_bp", "load", "bp", "limit", 0, "The lender's limit against a month's income"),
    Feature(
        "limit_to_income_rise_90d_bp", "load", "bp", "limit", 0,
        "How far that rose in 90 days (limits are kept by the end of each month)",
    ),
    Feature(
        "assets_to_debt_bp", "load", "bp", "asset", 365,
        "Assets not pledged, reported within a year, against what is owed on all own loans; unknown where nothing is "
        "owed",
    ),
    Feature(
        "assets_fall_90d_bp", "load", "bp", "asset", 365,
        "How far the same assets fell in 90 days; negative when they rose",
    ),
    Feature(
        "misuse_share_90d_bp", "misuse", "bp", "use", 92,
        "The largest share of a draw of 90 days that went to investment or gambling within 48 hours (of several draws "
        "the latest before it); unknown without a draw in the home currency, or while no outflow was ever seen",
    ),
    Feature(
        "applications_7d", "applications", "count", "application", 7,
        "Loans applied for in 7 days, each application once",
    ),
    Feature("applications_30d", "applications", "count", "application", 30, "Loans applied for in 30 days"),
    Feature(
        "applications_refused_30d", "applications", "count", "refused", 30,
        "Applications of 30 days that were refused",
    ),
    Feature("business_turnover_minor", "business", "minor", "business", 200, "Turnover of the latest period reported"),
    Feature(
        "business_turnover_fall_bp", "business", "bp", "business", 200,
        "How far it fell below the mean of up to 3 periods before (at least 2); negative when it rose",
    ),
    Feature("business_orders", "business", "count", "business", 200, "Orders of the latest period reported"),
    Feature(
        "business_orders_fall_bp", "business", "bp", "business", 200,
        "How far they fell below the mean of up to 3 periods before",
    ),
    Feature(
        "receivables_to_turnover_bp", "business", "bp", "business", 200,
        "What customers owe against the turnover of the latest period",
    ),
    Feature(
        "receivables_rise_bp", "business", "bp", "business", 200,
        "How far that rose above the mean of up to 3 periods before",
    ),
    Feature(
        "profile_changes_30d", "changes", "count", "change", 30,
        "Changes of employer, phone, address or bank account in 30 days, each kind once a day",
    ),
    Feature("employer_changes_30d", "changes", "count", "change_employer", 30, "Changes of employer in 30 days"),
    Feature("phone_changes_30d", "changes", "count", "change_phone", 30, "Changes of phone in 30 days"),
    Feature("address_changes_30d", "changes", "count", "change_address", 30, "Changes of address in 30 days"),
    Feature(
        "bank_account_changes_30d", "changes", "count", "change_bank_account", 30,
        "Changes of bank account in 30 days",
    ),
    Feature(
        "active_lenders", "other_lenders", "count", "bureau", 90,
        "Lenders with an open loan, by the bureau that sees most; reports count for 90 days",
    ),
    Feature(
        "enquiries_30d", "other_lenders", "count", "bureau", 90,
        "Enquiries of other lenders in the 30 days before the report, by the bureau that sees most",
    ),
    Feature(
        "external_overdue", "other_lenders", "count", "bureau", 90,
        "1 where a bureau sees something overdue elsewhere",
    ),
    Feature(
        "external_score", "other_lenders", "count", "bureau", 90,
        "The latest score reported, in that bureau's own units",
    ),
    Feature(
        "external_score_fall_90d", "other_lenders", "count", "bureau", 90,
        "How far it is below the highest of the same bureau in 90 days (the last of each month)",
    ),
    Feature(
        "adverse_events", "other_lenders", "count", "bureau", 90,
        "Adverse events known to the bureau that sees most",
    ),
    Feature(
        "external_debt_to_income_bp", "other_lenders", "bp", "bureau", 90,
        "What is owed to other lenders against a month's income",
    ),
    Feature(
        "listings_elsewhere", "listings", "count", "listing", 0,
        "Blacklists of others the borrower stands on, until they expire",
    ),
    Feature(
        "links_overdue", "links", "count", "link_overdue", 365,
        "Linked borrowers told to be overdue, last within a year",
    ),
    Feature("links_fraud", "links", "count", "link_fraud", 365, "Linked borrowers told to be fraudulent"),
    Feature("links_blacklisted", "links", "count", "link_blacklisted", 365, "Linked borrowers told to be listed"),
    Feature("links_abnormal", "links", "count", "link_abnormal", 365, "Linked borrowers told to be abnormal"),
    Feature("links_adverse", "links", "count", "link_adverse", 365, "Linked borrowers told to be in adverse news"),
    Feature(
        "links_gained_30d", "links", "count", "link_gained", 30,
        "Links first told of in 30 days; unknown while links themselves have been told of for less than 30",
    ),
    Feature(
        "links_lost_30d", "links", "count", "link_lost", 90,
        "Links that used to be told of again and in the last 30 days had not been for 60",
    ),
    Feature(
        "utilisation_bp", "revolving", "bp", "statement", 92,
        "Balance against limit on the latest statement, not older than 92 days",
    ),
    Feature(
        "utilisation_rise_bp", "revolving", "bp", "statement", 365,
        "The same over the newer half of the last 6 statements above the older half; at least 4 are needed",
    ),
    Feature(
        "paid_to_billed_bp", "revolving", "bp", "statement", 92,
        "Paid against billed on the latest statement; unknown where nothing was billed",
    ),
    Feature(
        "paid_to_billed_fall_bp", "revolving", "bp", "statement", 365,
        "The same over the newer half of the last 6 statements below the older half",
    ),
    Feature(
        "statements_unpaid_6", "revolving", "count", "statement_unpaid", 365,
        "Of the last 6 statements those with something billed and nothing paid; at least 4 are needed",
    ),
    Feature(
        "statements_unused_6", "revolving", "count", "statement_unused", 365,
        "Of the last 6 statements those with a balance of 2 % of the limit at most; at least 4 are needed",
    ),
    Feature(
        "violations_365d", "conduct", "count", "violation", 365,
        "Confirmed violations of rules in 365 days, each kind once a day",
    ),
    Feature(
        "violations_suspected_90d", "conduct", "count", "violation_suspected", 90,
        "Violations of 90 days that are not confirmed",
    ),
    Feature(
        "fraud_suspected_180d", "fraud", "count", "fraud_suspected", 180,
        "Kinds of fraud reported in 180 days and not confirmed",
    ),
)  # fmt: skip

GROUP_LEADS: dict[str, str] = {
    "misuse": "misuse_share_90d_bp",
    "applications": "applications_7d",
    "business": "business_turnover_minor",
    "changes": "profile_changes_30d",
    "other_lenders": "active_lenders",
    "listings": "listings_elsewhere",
    "links": "links_overdue",
    "revolving": "utilisation_bp",
    "conduct": "violations_365d",
    "fraud": "fraud_suspected_180d",
}
"""Per group the feature without which all of the group are unknown, so that nobody need look at the others."""

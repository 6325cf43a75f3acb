"""What the scorecard looks at: one number per feature, or None where there is no basis for one.

Zero is a value, absence is not zero. Ratios are basis points, amounts minor units of the borrower's home currency,
spans whole business days or hours of the lender's zone.
"""

from typing import NamedTuple


class Feature(NamedTuple):
    """One column of the feature list.

    `proof` names the kind of event that proves its value; `proof_days` is how far back such an event may lie (0: any
    age, since what proves an absence is the last time the thing was seen). Arrears are proved by the loans themselves.
    """

    name: str
    group: str
    unit: str
    proof: str
    proof_days: int
    meaning: str


FEATURES: tuple[Feature, ...] = (
    Feature("logins_7d", "logins", "count", "login", 7, "Successful logins in 7 days"),
    Feature(
        "login_decline_bp", "logins", "bp", "login", 0,
        "How far logins of 7 days fell below the mean week of the 4 before; negative when they rose; unknown until "
        "logins have been seen for 5 weeks, and when the 4 weeks had none",
    ),
    Feature("days_since_login", "logins", "days", "login", 0, "Days since the last successful login"),
    Feature("failed_logins_24h", "logins", "count", "failed_login", 2, "Failed logins in 24 hours"),
    Feature(
        "new_devices_7d", "logins", "count", "new_device", 7,
        "Devices first seen in 7 days; unknown while logins themselves have been seen for less than 7 days",
    ),
    Feature("loans_taken_7d", "borrowing", "count", "loan", 7, "Loans taken in 7 days"),
    Feature("loans_taken_30d", "borrowing", "count", "loan", 30, "Loans taken in 30 days"),
    Feature("loans_taken_90d", "borrowing", "count", "loan", 90, "Loans taken in 90 days"),
    Feature(
        "reborrow_cycles_90d", "borrowing", "count", "loan", 90,
        "Loans of 90 days taken within 3 days after another of similar amount (20 %) was paid off",
    ),
    Feature(
        "repaid_from_credit_90d_bp", "borrowing", "bp", "repayment", 90,
        "Share of the money repaid in 90 days that arrived within 48 hours after a new loan or other credit inflow",
    ),
    Feature(
        "spend_24h_to_mean_bp", "spending", "bp", "spend", 2,
        "Spent in 24 hours against the daily mean of the 90 days before; unknown with less than 30 days seen",
    ),
    Feature(
        "spend_24h_deviations", "spending", "hundredths of a standard deviation", "spend", 2,
        "The same, as deviations from that mean (a deviation is at least a tenth of the mean)",
    ),
    Feature("cash_share_30d_bp", "spending", "bp", "cash", 30, "Cash withdrawn as a share of all spent in 30 days"),
    Feature("transfer_share_30d_bp", "spending", "bp", "transfer", 30, "Transfers as a share of all spent in 30 days"),
    Feature("income_30d_minor", "income", "minor", "income", 30, "Income of 30 days"),
    Feature(
        "income_fall_bp", "income", "bp", "income", 0,
        "How far income fell below the mean of the 3 months before; negative when it rose. Counts 30 days, or 35 at "
        "the rate of 30 if that is more, since pay days move by days; unknown until income has been seen for 90 days",
    ),
    Feature(
        "income_variation_6m_bp", "income", "bp", "income", 0,
        "Standard deviation over mean of the last 6 whole civil months; at least 3 are needed",
    ),
    Feature(
        "months_without_income_6m", "income", "count", "income", 0,
        "Civil months without income among the last 6 whole ones; at least 3 are needed",
    ),
    Feature(
        "due_to_income_bp", "income", "bp", "income", 0,
        "Instalments due within 30 days against income of 30 days (of 35 at that rate if more), at most 1,000 %",
    ),
    Feature(
        "outflow_to_inflow_30d_bp", "income", "bp", "spend", 30,
        "All outflow against all inflow of 30 days, at most 1,000 %",
    ),
    Feature("on_time_ratio_bp", "repayments", "bp", "repayment", 0, "Paid on time among the last 6 due dates"),
    Feature(
        "mean_lateness_days", "repayments", "days", "repayment", 0,
        "Mean days late over the last 6 due dates, rounded down; what is unpaid is late up to the business date",
    ),
    Feature(
        "overdue_episodes_365d", "repayments", "count", "repayment", 0,
        "Separate stretches of days in arrears that reach into the last 365 days",
    ),
    Feature(
        "failed_debits_30d", "repayments", "count", "failed_debit", 30,
        "Failed debits of 30 days that the borrower caused",
    ),
    Feature("worst_managed_dpd", "repayments", "days", "", 0, "Managed days past due, worst of the open loans"),
    Feature("worst_contractual_dpd", "repayments", "days", "", 0, "Contractual days past due, worst of the open loans"),
    Feature(
        "activity_fall_bp", "activity", "bp", "", 0,
        "How far events of any kind of 30 days fell below the mean of the 3 months before; unknown until seen for 90 "
        "days",
    ),
)  # fmt: skip

FEATURE_INDEX: dict[str, int] = {feature.name: index for index, feature in enumerate(FEATURES)}

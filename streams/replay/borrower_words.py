"""What a borrower is told of a decision, in plain English and Chinese, apart from the reasons: those are the policy's.

Facts of the borrower's own account, no blame; nothing of how a decision is made, of other people, or of what is being
looked into.
"""

from typing import Final, Literal

from streams.policy.model import Text

Language = Literal["en", "zh"]

WHAT: Final = {
    "warning_raised": Text(
        en="We see signs that your payments may become difficult.", zh="我们注意到您的还款可能出现困难。"
    ),
    "warning_escalated": Text(
        en="The signs that your payments may become difficult have become stronger.",
        zh="您的还款可能出现困难的迹象有所加重。",
    ),
    "warning_lowered": Text(
        en="The signs that your payments may become difficult have become weaker.",
        zh="您的还款可能出现困难的迹象有所减轻。",
    ),
    "warning_cleared": Text(
        en="There are no longer signs that your payments may become difficult.", zh="您的还款已无困难迹象。"
    ),
    "draws_restricted": Text(
        en="New draws are restricted: at most {max_30d} in 30 days, at least {min_gap_h} hours apart.",
        zh="新的提款受到限制：30天内最多{max_30d}次，每次间隔至少{min_gap_h}小时。",
    ),
    "limit_decreased": Text(
        en="Your limit was lowered from {from_money} to {to_money}.", zh="您的额度由{from_money}下调至{to_money}。"
    ),
    "limit_frozen": Text(
        en="New draws are stopped for now. Your limit is {to_money}.", zh="新的提款暂停。您的额度为{to_money}。"
    ),
    "limit_zeroed": Text(en="Your limit was withdrawn.", zh="您的额度已取消。"),
    "limit_restored": Text(
        en="A restriction was lifted. Your limit is {to_money}.", zh="一项限制已解除。您的额度为{to_money}。"
    ),
    "limit_rebased": Text(en="Your limit is now {to_money}.", zh="您的额度现为{to_money}。"),
    "plan_offered": Text(en="You are offered a payment plan: {plans}.", zh="为您提供还款方案：{plans}。"),
    "due_date_shifted": Text(
        en="Because a payment service had failed, what was due on {from_on} may be paid until {to_on}.",
        zh="因支付服务发生故障，原定{from_on}到期的款项可延至{to_on}支付。",
    ),
    "waiver_proposed": Text(
        en="A penalty of {money}, charged while a payment service had failed, is proposed to be waived.",
        zh="支付服务故障期间产生的罚息{money}，建议予以减免。",
    ),
    "blacklisted": Text(
        en="An entry about you was made in the register that several lenders share. It ends on {expires_on}.",
        zh="您的一条记录已登入多家机构共用的名单，有效期至{expires_on}。",
    ),
    "delisted": Text(
        en="The entry about you in the register that several lenders share was removed.",
        zh="您在多家机构共用名单中的记录已删除。",
    ),
    "appeal_filed": Text(en="A person will look at the decision again.", zh="该决定将由人工复核。"),
    "probation_completed": Text(
        en="A person will look at whether your account can be restored.", zh="将由人工评估是否恢复您的账户。"
    ),
}
"""By the type of an event; of a request for a review by why it is asked for. Of anything else nothing is told."""

PLANS: Final = {
    "instalments": Text(en="in {count} instalments until {last_on}", zh="分{count}期还款，至{last_on}"),
    "deferral": Text(en="later due dates, the last one on {last_on}", zh="延期还款，最后一期为{last_on}"),
    "partner_refinance": Text(
        en="a new loan of a partner, in {count} instalments until {last_on}",
        zh="由合作机构重新贷款，分{count}期，至{last_on}",
    ),
}
UNDONE: Final = Text(
    en="An earlier decision was undone, because what it rested on did not hold.",
    zh="此前的一项决定所依据的情况并不成立，已撤销。",
)
NEUTRAL: Final = Text(
    en="Information connected with the account calls for caution.", zh="与账户相关的信息提示需要谨慎。"
)
"""In the place of reasons that could tell of other people, or of what is being looked into."""
WAY_BACK: Final = {
    "pay_overdue": Text(en="Pay what is overdue: {overdue}.", zh="请支付逾期款项：{overdue}。"),
    "pay_by": Text(en="Pay it by {by_on}.", zh="请于{by_on}前支付。"),
    "pay_on_time": Text(en="Make your payments on their due dates.", zh="请在到期日按时还款。"),
    "complete_probation": Text(en="Go on making your payments on their due dates.", zh="请继续在到期日按时还款。"),
    "accept_plan": Text(en="You can accept the payment plan.", zh="您可以接受还款方案。"),
    "keep_plan": Text(en="Keep to the payment plan.", zh="请按还款方案还款。"),
    "request_review": Text(en="You can ask for a review.", zh="您可以申请复核。"),
    "warning": Text(en="The signs can be over from {earliest_on}.", zh="最早可于{earliest_on}解除提示。"),
    "limit": Text(en="The whole limit can be restored from {earliest_on}.", zh="最早可于{earliest_on}恢复全部额度。"),
}
"""By the action of a recovery; then when a payment is expected, and from when on there is nothing more against it."""
ACCOUNT: Final = {
    "limit": Text(en="Your limit: {limit}", zh="您的额度：{limit}"),
    "overdue": Text(en="Overdue: {overdue}", zh="逾期金额：{overdue}"),
    "nothing_overdue": Text(en="Nothing is overdue.", zh="没有逾期款项。"),
    "incomplete": Text(
        en="Some of what was sent to us about this account could not be taken in. This may not be all.",
        zh="与该账户有关的部分信息未能录入，以上内容可能不完整。",
    ),
    "erased": Text(en="What was kept of you before {on} was erased.", zh="{on}之前保存的您的资料已删除。"),
    "nothing_decided": Text(en="Nothing was decided.", zh="没有任何决定。"),
    "as_of": Text(en="Your account as of {on}", zh="您的账户（截至{on}）"),
    "why": Text(en="Why", zh="原因"),
    "way_back": Text(en="What you can do", zh="您可以"),
}


def say(text: Text, language: Language, **words: object) -> str:
    """A text in a language, with its words filled in."""
    return (text.en if language == "en" else text.zh).format(**words)

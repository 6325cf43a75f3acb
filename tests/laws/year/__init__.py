"""The law of a simulated year: what must hold of a whole population, whatever happens to it.

`python -m tests.laws.year --borrowers 50000` simulates a lender's year, folds it under the shipped policy and holds
what was decided to four claims. They are checked against the outputs, the recorded inputs, the simulator's ground truth
and the ledger's rows; no code that decides is asked. Days are civil days of the policy's zone.

**No flap.** A step that was given back (a `limit_restored`, whether as a stage, by time or as a compensation) is not
taken again within `stage_days` of the policy without a new cause. It is taken again by a restriction to a harsher
status than the restoration led to, or, where that had raised the amount, to less than it. A cause is new if

- the restriction names an event as evidence that was delivered after the restoration; or
- days past due that it names had not come to the threshold on the day of the restoration; or
- the restoration compensated a step that was wrong, and what calls for the step now has arisen since that one was
  taken: a warning that was raised in between, or days past due where those of that step are not there at the end of its
  day; or
- the warning level was raised since, at a score lower than that of the restoration, or than the one before where that
  was of the same judgement (an income that stays away is no event, and the four reasons that are named need not be
  those that have changed).

**Every chain is whole.** `limit_seq` counts from 1 without a hole, every event starts where the last one ended, the
first one at the amount of the profile at the first judgement and at `normal`, and the last one ends where the state
stands.

**No lasting mark of an outage.** At the end of the year, of every borrower of whom a debit failed because its channel
was down (ground truth):

- no warning level, restriction or listing is in force whose reasons are all the outage's. A reason is if it counts days
  past due that do not come to its threshold without the days that outages excuse (from the failure to the grace's end),
  failed debits that all failed in an outage, or lateness of one who was never late but on those days;
- who had no failure of its own in the last 31 days has none counted, and who was never late but on excused days is on
  time in every feature of lateness.

Nobody is left out: borrowers with trouble of their own keep what rests on it, and nothing else.

**Who has come through is restored.** A restriction ends in the status `normal` if its way back ends before the next one
or the end of the year, less a week in which events may be late: from the restriction or the cure, whichever is later,
the probation; then the stages, each after the days of a stage, after another probation where there were arrears since
the last one, and with an instalment paid on time since then (or nothing left to pay); each of them on a day without a
level of `amber` or above, in force or waiting for the end of its cool-down, and without a legal hold. Not due is who
was zeroed, is in a distressed restructure or has a loan written off.
"""

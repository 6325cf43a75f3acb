"""The short form of a loan's rows holds all that the rows hold."""

from hypothesis import given
from hypothesis import strategies as st

from streams.engine.loan import ROW, SLOT, SLOTS_MAX, UNPAID, Loan
from streams.engine.rows import short_rows, whole_rows

minor = st.integers(0, 3)
schedules = st.lists(
    st.integers(1, 6).flatmap(lambda slots: st.lists(minor, min_size=slots * SLOT, max_size=slots * SLOT)),
    min_size=1,
    max_size=3,
)


def loan_with(schedules: list[list[int]], rows: list[list[int]]) -> Loan:
    flat = [number for row in rows for number in row]
    return Loan("l1", "cash_loan", "CNY", 1, 0, 0, "e1", 0, [], schedules, rows=flat)


def as_set(schedules: list[list[int]]) -> list[list[int]]:
    """Every row of every schedule, nothing paid."""
    return [
        [index * SLOTS_MAX + slot, due, UNPAID, 0, fee, interest, principal]
        for index, schedule in enumerate(schedules)
        for slot, (_, due, fee, interest, principal) in enumerate(zip(*[iter(schedule)] * SLOT, strict=True))
    ]


@given(schedules, st.data())
def test_rows_in_any_order_and_state_come_back(schedules: list[list[int]], data: st.DataObject) -> None:
    rows = data.draw(st.permutations(as_set(schedules)))
    for row in data.draw(st.lists(st.sampled_from(rows))):
        row[data.draw(st.integers(1, ROW - 1))] = data.draw(st.integers(-2, 3))
    loan = loan_with(schedules, rows)
    assert whole_rows(schedules, short_rows(loan)) == loan.rows


def test_rows_as_they_were_set_are_counted() -> None:
    schedules = [[number for no in range(12) for number in (no + 1, 20_487 + 30 * no, 5, 20, 70)]]
    rows = as_set(schedules)
    assert short_rows(loan_with(schedules, rows)) == [0, 12]
    rows[1][2:] = [20_510, 0, 0, 0, 0]
    assert short_rows(loan_with(schedules, rows)) == [0, 1, -2, *rows[1][1:], 2, 10]
    assert short_rows(loan_with(schedules, [])) == []

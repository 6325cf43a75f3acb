"""What a policy would have done on recorded histories, held against what became of people (docs/backtest.md)."""

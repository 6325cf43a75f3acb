"""Points of a scorecard from what became of people, and how well any scorecard tells them apart (docs/scorecard.md)."""

"""Who runs: ours with the whole engine and with the small fold, the floor, and the peers. See docs/benchmark.md."""

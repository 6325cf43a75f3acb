"""Faults on real parts: workers, brokers and stores are killed, stalled and cut off, and nothing may be lost or twice.

`make faults` runs the short rows, `make faults-long` all of them. A row is a test: its name without `test_`.
"""

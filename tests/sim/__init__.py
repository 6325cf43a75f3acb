"""Deterministic simulation of workers: the code of take-over, chunk cycle, transactions and commit log as it runs in
production, over a broker, a store and a group that are simulated, in virtual time, with faults drawn from a seed."""

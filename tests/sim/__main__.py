"""`python -m tests.sim --seeds 5000`; `--seed 17` repeats one and prints what happens; `--mutant NAME` takes one
protection out."""

import argparse
import sys
import time
from collections import Counter
from contextlib import nullcontext

from tests.sim.mutants import MUTANTS, mutated
from tests.sim.run import run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim")
    parser.add_argument("--seeds", type=int, default=1_000, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--seed", type=int, help="this one alone, with what happens in it")
    parser.add_argument("--harsh", action="store_true", help="with every kind of trouble in every seed")
    parser.add_argument("--mutant", choices=sorted(MUTANTS), help="take this protection out, and look for who notices")
    asked = parser.parse_args()
    with mutated(asked.mutant) if asked.mutant else nullcontext():
        return simulate(asked)


def simulate(asked: argparse.Namespace) -> int:
    if asked.seed is not None:
        wrong = run(asked.seed, trace=True, harsh=asked.harsh).wrong
        print("\n".join(wrong) or "all is well")
        return 1 if wrong else 0
    began_s = time.perf_counter()
    totals: Counter[str] = Counter()
    bad = 0
    for seed in range(asked.first, asked.first + asked.seeds):
        found = run(seed, harsh=asked.harsh)
        totals.update(found.counts)
        if found.wrong:
            bad += 1
            print(f"seed {seed}: {found.wrong[0]}", flush=True)
            if bad == 10:
                break
    took_s = time.perf_counter() - began_s
    print(f"{asked.seeds} seeds in {took_s:.1f} s, {bad} bad; {dict(totals)}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

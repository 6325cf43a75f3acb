"""`duewatch demo`: the whole service on this machine alone, fed by a simulated lender, to watch it at work."""

from streams.demo.run import run_demo
from streams.demo.sandbox import DemoError

__all__ = ["DemoError", "run_demo"]

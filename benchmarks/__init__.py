"""How fast it is: the whole service on real parts beside a floor, and the engine alone. See docs/speed.md."""

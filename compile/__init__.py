"""The compiler: passes, export, lowering, measuring and packing. Runs on the host and needs the `compile` extra."""

"""The commands: `profi run`, `profi paint`."""

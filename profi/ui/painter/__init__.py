"""The painter in a browser: `profi ui`."""

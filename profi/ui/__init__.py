"""The painter and the user study in a browser."""

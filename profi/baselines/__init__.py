"""The rows of Table 1 that are not the paper's own: one file each."""

"""The paper's method: DDIM, the attention seam, PAIntA (eq. 5), RASG (eq. 6 to 11)."""

"""The DDIM family (eq. 3-4) and the sampling loop with its two seams; knows no paper trick."""

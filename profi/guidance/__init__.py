"""Objectives on cross-attention (eq. 9-10) and RASG (eq. 8)."""

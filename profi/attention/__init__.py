"""Where attention is read and changed: sites, the control seam, capture, PAIntA (eq. 5)."""

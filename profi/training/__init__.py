"""Training what the paper's authors trained and nobody publishes: SmartBrush (Table 1)."""

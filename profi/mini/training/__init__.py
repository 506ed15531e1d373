"""Training the embedded world's models: one module per stage over one loop."""

"""Pre-trained models: folders, repositories, the parts of a model, compiled blocks."""

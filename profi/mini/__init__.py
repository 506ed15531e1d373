"""The embedded world: scenes, their COCO-format data and the models trained on them."""

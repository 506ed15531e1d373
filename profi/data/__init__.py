"""Triplets of the benchmark: COCO-format instances, their hulls, their sampling, their images."""

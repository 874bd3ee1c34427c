"""Numpy in, numpy out: planes, prompts, masks, the predictor and the worker."""

"""Tuning a base model, and pretraining the embedded ones.

`config.py` says what is done, `fit.py` is the only file that knows the trainer, `checkpoints.py`
keeps interrupted runs, `pretrain.py` and `tune.py` are the two kinds of training run.
"""

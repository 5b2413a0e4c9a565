"""minipack: a generated benchmark in HumanEvalPack's shape, small enough for a tiny model.

A *primitive* is one line of Python over one variable, with phrases that describe it and mutants
that break it (`primitives.py`). A *chain* of one to three primitives is a program. Chains are
divided into train, validation and test by a stable hash of their primitives' names, so every
held-out problem is an unseen composition of seen primitives (`problems.py`). `documents.py` makes
text to pretrain and to tune on.

Everything is drawn from a seed and byte-identical for it, on every platform. Standard library only.
"""

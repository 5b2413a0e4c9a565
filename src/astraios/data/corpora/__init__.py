"""Corpora, found by file name; each module exports `corpus`."""

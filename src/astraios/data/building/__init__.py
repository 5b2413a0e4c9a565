"""The stage `data build`: raw rows to a corpus, every row accounted for.

config.py            what is read, left out and split
plan.py              a config with its rows, rules and texts of benchmarks: what a run is made of
steps.py             the steps in their order, each with a name
filtering.py         row by row, in chunks that are put on disk: what a kill cannot take
selecting.py         what needs all rows: duplicates, samples
near_duplicates.py   rows that nearly repeat another
secrets.py           keys, e-mail addresses
contamination.py     texts of benchmarks
splitting.py         the order of rows, and those held out
words.py             texts as words
rows.py              what is written
report.py            the counts
build.py             the run
"""

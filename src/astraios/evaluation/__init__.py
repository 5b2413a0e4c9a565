"""The stages behind training: generate, judge, score, and grading of imported generations."""

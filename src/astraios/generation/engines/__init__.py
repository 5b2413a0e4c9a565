"""Where completions come from: one file an engine, exporting `engine`."""

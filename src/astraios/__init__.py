"""Astraios: which tuning method, at which size, for which budget, and how sure is that?

Importing this package is cheap: no torch, no peft. `import astraios.peft` registers the bottleneck
adapters with PEFT; everything else is reached through its own module or the command line.
"""

__version__ = "0.1.0"

__all__ = ["__version__"]

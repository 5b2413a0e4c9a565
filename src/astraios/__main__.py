"""`python -m astraios` is the command line."""

from astraios.cli import main

if __name__ == "__main__":
    main()

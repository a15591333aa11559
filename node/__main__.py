"""`python -m node` is `tidegate`."""

from node.cli import main

if __name__ == "__main__":
    main()

"""`python -m sa_lightning` is `sa`."""

from sa_lightning.cli import main

if __name__ == "__main__":
    main()

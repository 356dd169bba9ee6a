"""``python -m fedn`` is the ``fedn`` command."""

from fedn.cli import main

if __name__ == "__main__":
    main()
